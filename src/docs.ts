// Rewrites the docs that are made from tables in the code: node dist/docs.js
import { writeFileSync } from "node:fs";

import { settingsMarkdown, settingsSchema } from "./train/settings/settings.js";

const INTRO = `# Settings of \`revmoe train\`

Give settings in a YAML file or as flags; a flag overrides the file. The flag is the name with dashes, as
\`--learning-rate 1e-5\`; \`--packing\` and \`--no-packing\` switch a boolean. "0: all" tells what the value 0 means. This
page is made from the table in \`src/train/settings/rows.ts\` by \`node dist/docs.js\`.

An editor that reads JSON Schema completes and checks a settings file if its first line is

\`\`\`yaml
# yaml-language-server: $schema=node_modules/revmoe/docs/settings.schema.json
\`\`\`

VS Code does so with its YAML extension. The path leads from the folder of your file to [settings.schema.json](settings.schema.json).
`;

writeFileSync(new URL("../docs/settings.md", import.meta.url), `${INTRO}\n${settingsMarkdown().trim()}\n`);
writeFileSync(new URL("../docs/settings.schema.json", import.meta.url), settingsSchema());
