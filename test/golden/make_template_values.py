"""Makes templates/values.json: what transformers' template engine prints for expressions over one row's values.

    pip install transformers && python3 test/golden/make_template_values.py

The row is kept as its JSON text, since that is where 10.0 and 9007199254740993 are what they are. An expression that Python
refuses has null.
"""
import json
import pathlib

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent
ROW = r"""{"yes": true, "no": false, "nil": null, "one": 1, "minus": -7, "big": 9007199254740993, "huge": -123456789012345678901234567890,
"floats": [10.0, 1e3, 1.5, -0.0, 0.1, 1e-7, 0.00001, 0.0001, 1e16, 1e15, 123456789.125, 1e22, 1.7976931348623157e308, 5e-324, 1e400, 2.50, 9007199254740993.0],
"order": {"price": 10.0, "id": 9007199254740993, "2": "b", "1": "a", "10": null}, "nested": {"a": [1, [2.0, {"b": true}], []], "c": {}},
"text": "it's", "both": "it's \"so\"", "quoted": "say \"x\"", "lines": "a\n  b\r\n\n\tc", "odd": "\u0000\u001f\u007f\u0085\u00a0\u00ad\u200b\u2028\ue000\ufeff\ud83d\ude00 é",
"blanks": "\u001c\u0085\u3000 x \u2003\ufeff", "emoji": "a😀b", "empty": "", "void": [], "names": ["b", "A", "c"], "mixed": [1, "1", 1.0, true, null],
"schema": {"type": "array", "items": {"type": "string"}, "get": 1, "keys": 2, "values": [3]}, "upper": "HELLO wORLD don't", "html": "<b>&'\"</b>",
"calls": [{"name": "f", "arguments": {"all": true, "n": 10.0}}, {"name": "g", "arguments": {}}], "digits": "42", "half": "3.7e1", "word": "x12"}"""
PRINTED = ["yes", "no", "nil", "one", "minus", "big", "huge", "floats", "order", "nested", "text", "both", "quoted", "lines", "odd", "blanks", "emoji", "void", "none", "mixed",
           "schema", "calls", "missing", "[text, both, quoted, odd]", "(1, 2.0)", "{'k': nil}", "[yes, none, true, None]", "1.0", "10 / 4", "-0.0"]
EXPRESSIONS = [f"{{{{ {value} }}}}" for value in PRINTED] + [f"{{{{ {value} | string }}}}" for value in PRINTED] \
    + [f"{{{{ {value} | tojson }}}}" for value in PRINTED] + [f"{{{{ '<' ~ {value} ~ '>' }}}}" for value in PRINTED] + [
    "{{ order | tojson(indent=2) }}", "{{ nested | tojson(indent=4) }}", "{{ nested | tojson(indent=0) }}", "{{ nested | tojson(indent='\t') }}",
    "{{ order | tojson(separators=(',', ':')) }}", "{{ order | tojson(sort_keys=true) }}", "{{ odd | tojson(ensure_ascii=true) }}", "{{ emoji | tojson(true) }}",
    "{{ nested | tojson(indent=2, separators=(',', '='), sort_keys=true) }}", "{{ html | tojson }}", "{{ floats | tojson(indent=none) }}",
    "{% for x in order %}{{ x }};{% endfor %}", "{% for k, v in order.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in order | items %}{{ k }}={{ v | string }};{% endfor %}",
    "{% for k, v in order | dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for c in emoji %}{{ c }},{% endfor %}", "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in one %}x{% endfor %}", "{{ order.keys() | list }}", "{{ order.values() | list }}", "{{ order.get('price') }} {{ order.get('x') }} {{ order.get('x', 5) }}",
    "{{ schema['items'] }}", "{% for k, v in schema.items() %}{{ k }}:{{ v }};{% endfor %}", "{{ schema.get('get') }}", "{{ schema['keys'] }}",
    "{{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ none == false }} {{ missing == none }} {{ missing == missing2 }}", "{{ mixed == [1, '1', 1.0, true, none] }} {{ (1, 2) == [1, 2] }}",
    "{{ nested == nested }} {{ nested.c == {} }} {{ big == 9007199254740991 + 1 }} {{ big == 9007199254740991 + 2 }}", "{{ 1 in mixed }} {{ '1' in mixed }} {{ 2 in mixed }} {{ none in mixed }} {{ [1] in [[1]] }}",
    "{{ 'price' in order }} {{ 'x' not in order }} {{ 'a' in text }} {{ 'x' in missing }}", "{{ 'a' in none }}", "{{ 1 in text }}", "{{ 'a' in nil }}",
    "{{ text + 1 }}", "{{ text + none }}", "{{ text + missing }}", "{{ text + 's' }}", "{{ none + text }}", "{{ names + [1] }}", "{{ 'ab' * 3 }}", "{{ [1] * 2 }}", "{{ 3 * '-' }}",
    "{{ big + 1 }} {{ big - 1 }} {{ big * 2 }} {{ big // 10 }} {{ big % 10 }} {{ -big }} {{ 2 ** 70 }} {{ 9007199254740991 + 2 }}", "{{ minus // 2 }} {{ minus % 3 }} {{ 7 % -3 }} {{ -7.5 % 2 }} {{ 7 // 2.0 }} {{ 7 / 2 }}",
    "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ true + 1 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }}", "{{ big / 2 }} {{ big + 0.0 }}", "{{ 1 < 2.5 }} {{ 'a' < 'B' }} {{ [1, 2] < [1, 3] }} {{ big > 9007199254740991 + 1 }}", "{{ 'a' < 1 }}", "{{ none < 1 }}",
    "{{ emoji | length }} {{ order | length }} {{ names | length }} {{ missing | length }}", "{{ one | length }}", "{{ nil | length }}",
    "{{ emoji[1] }} {{ emoji[-1] }} {{ emoji[1:] }} {{ emoji[9] }} {{ names[0] }} {{ names[-1] }} {{ names[5] }} {{ names[1:] }}", "{{ names.length }}{{ text.length }}{{ one.x }}{{ nil.x }}", "{{ missing.x }}", "{{ missing['x'] }}", "{{ order.x.y }}",
    "{{ mixed | join(',') }}", "{{ mixed | join }}", "{{ names | join(', ') }} {{ emoji | join('-') }}", "{{ calls | join(';', attribute='name') }}", "{{ calls | map(attribute='name') | list }}", "{{ names | map('upper') | list }}", "{{ mixed | map('string') | join('|') }}",
    "{{ calls | selectattr('name', 'equalto', 'f') | list }}", "{{ calls | rejectattr('arguments') | list }}", "{{ mixed | select('string') | list }}", "{{ mixed | reject('none') | list }}", "{{ mixed | select('number') | list }}", "{{ calls | selectattr('x', 'undefined') | list | length }}",
    "[{{ blanks | trim }}] [{{ blanks.strip() }}] [{{ blanks.lstrip() }}] [{{ blanks.rstrip() }}]", "[{{ 'xxaxx'.strip('x') }}] [{{ '  a '.strip(' ') }}] [{{ 'abcba'.lstrip('ab') }}] [{{ '😀a😀'.strip('😀') }}] [{{ 'xay' | trim('xy') }}]", "[{{ ' a '.strip(none) }}] [{{ ' a '.strip('') }}]", "{{ one.strip('a') }}", "{{ nil.strip() }}", "[{{ one | trim }}] [{{ nil | trim }}]",
    "{{ upper | capitalize }} {{ upper.capitalize() }} {{ upper.title() }} {{ upper | title }} {{ upper.lower() }} {{ upper | upper }}", "{{ 'x-y z' | title }} {{ 'x-y z'.title() }} {{ one | upper }}",
    "{{ lines | indent }}|{{ lines | indent(2, true) }}|{{ lines | indent(2, false, true) }}|{{ lines | indent('>') }}", "{{ lines.split() }} {{ lines.split('\n') }} {{ 'a-b-c'.split('-', 1) }} {{ 'a-b-c'.rsplit('-', 1) }} {{ lines.splitlines() }}", "{{ 'abc'.find('c') }} {{ 'abc'.count('b') }} {{ ', '.join(names) }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ '12'.isdigit() }}", "{{ 'aXbX' | replace('X', '-') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ text.startswith('it') }} {{ text.endswith(('x', 's')) }}", "{{ 'abc'.index('z') }}", "{{ names.index('A') }} {{ names.count('A') }}", "{{ names.append('x') }}", "{{ ', '.join(mixed) }}",
    "{{ digits | int }} {{ half | int }} {{ word | int }} {{ word | int(7) }} {{ -1.5 | int }} {{ true | int }} {{ big | int }} {{ half | float }} {{ word | float }} {{ one | float }} {{ nil | int }}", "{{ minus | abs }} {{ -1.5 | abs }} {{ big | abs }}", "{{ missing | default('d') }} {{ nil | default('d') }} {{ empty | default('d', true) }} {{ missing | d }}|", "{{ names | first }} {{ names | last }} {{ emoji | first }} {{ void | first }}|", "{{ names | sort }} {{ names | reverse | list }} {{ emoji | reverse }} {{ [1, 1, 2] | unique | list }}", "{{ emoji | list }} {{ order | list }} {{ missing | list }}", "{{ calls[0].arguments | items | list | length }} {{ missing | items | list }}",
    " ".join("{{ %s is %s }}" % (value, test) for value in ("yes", "one", "big", "floats[0]", "nil", "missing", "text", "names", "order", "(1, 2)") for test in ("number", "integer", "float", "string", "mapping", "sequence", "iterable", "boolean", "none", "defined", "true")), "{{ 3 is odd }} {{ -1 is odd }} {{ 0 is even }} {{ text is not string }}", "{{ text is odd }}",
    "{{ not missing }} {{ not none }} {{ not '' }} {{ not [] }} {{ not {} }} {{ not 0.0 }} {{ not '0' }}", "{{ nil or 'x' }} {{ 0 or none }} {{ one and missing }}| {{ 'a' if nil }}|", "{{ +true }} {{ -floats[0] }}",
    "{% for i in range(3) %}{% if i == 1 %}{% set x = i %}{% endif %}[{{ x }}]{% endfor %}", "{% set x = 0 %}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}", "{% for i in range(5) %}{{ i }}{% if i == 2 %}!{% break %}{% endif %},{% endfor %}", "{% for i in range(4) %}{{ i }}{% if i == 2 %}{% continue %}{% endif %},{% endfor %}", "{% for i in range(4) if i is odd %}{{ i }}/{{ loop.length }} {{ loop.cycle('a', 'b') }}{% endfor %}", "{% for k, v in [(1, 2), [3, 4]] %}{{ k }}{{ v }}{% endfor %}", "{% for x in names %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for k, v in [(1, 2, 3)] %}x{% endfor %}",
    "{% macro m(a, b=none) %}{{ a }}{{ b }}{% endmacro %}{{ m(yes) }} {{ m(1.0, b=nil) }}", "{% set t %}{{ yes }}{% endset %}{{ t }}", "{% set ns = namespace(a=none, l=[1.0]) %}{{ ns.a }} {{ ns.l }} {% set ns.a = true %}{{ ns.a }}", "{{ range(3) | list }} {{ 'x' ~ 1.0 ~ none ~ true ~ [none] }}", "{{ raise_exception('no') }}", "{{ none }}{{ True }}{{ None }}", "{% if none %}a{% elif 0.0 %}b{% else %}c{% endif %}", "{{ [missing] }} {{ {'a': missing} }}", "{{ missing | tojson }}", "{{ {'a': missing} | tojson }}", "{{ nested['a'][1][1]['b'] }} {{ nested.a[1][0] }}", "{{ order['2'] }}{{ order.price }}", "{{ none.x }}", "{{ empty is lower }} {{ digits is upper }} {{ names is lower }} {{ upper is upper }} {{ word is lower }}", "{{ odd.split() }} {{ blanks.split() }} {{ ' a b  c '.split(none, 1) }} {{ 'a,b,c'.split(sep=',', maxsplit=1) }}", "{{ order | items | list }} {{ schema | dictsort | join }} {{ order.items() | list | last }}",
    "{{ nil | select | list }} {{ nil | map('upper') | list }} {{ 0 | reject('none') | list }}", "{{ 1.5 is odd }} {{ 1.5 is even }} {{ big is odd }}", "{{ void in order }}", "{{ missing | int }}", "{{ yes | replace('T', 't') }} {{ names | replace(', ', ',', 1) }} {{ 'aaa' | replace('', '-') }}",
    "{{ names | indent }}", "{{ one | indent }}", "{{ floats[0] * 'a' }}", "{{ true * 'a' }} {{ -1 * 'a' }}", "{{ emoji * huge }}", "{{ html | safe }} {{ html }}",
]


def printed(expression):
    try:
        # A new row each: jinja2 changes some values, as the lists that it indents.
        return _compile_jinja_template(expression).render(**json.loads(ROW))
    except (jinja2.TemplateError, TypeError, ValueError, ZeroDivisionError, AttributeError, OverflowError):
        return None


if __name__ == "__main__":
    cases = {expression: printed(expression) for expression in EXPRESSIONS}
    body = ",\n".join(f"{json.dumps(expression)}: {json.dumps(text)}" for expression, text in cases.items())
    (HERE / "templates" / "values.json").write_text(f'{{"row": {json.dumps(ROW)}, "printed": {{\n{body}\n}}}}\n')
    print(len(cases), "expressions,", sum(text is None for text in cases.values()), "refused, transformers", transformers.__version__)
