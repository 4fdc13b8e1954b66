// Rewrites the docs that are made from tables in the code: node dist/docs.js
import { writeFileSync } from "node:fs";

import { settingsMarkdown, settingsSchema } from "./train/settings/settings.js";

const INTRO = `# Settings of \`revmoe train\`

Flags come before the YAML file, the file before the defaults. A flag is the name with dashes: \`--learning-rate 1e-5\`;
\`--packing\` and \`--no-packing\` switch a boolean. Made from the table in \`src/train/settings/rows.ts\` by \`node dist/docs.js\`.

An editor that reads JSON Schema completes and checks a settings file that begins with the line

\`\`\`yaml
# yaml-language-server: $schema=node_modules/revmoe/docs/settings.schema.json
\`\`\`

(VS Code does with its YAML extension). The path is that of [settings.schema.json](settings.schema.json), from the file's own folder.
`;

writeFileSync(new URL("../docs/settings.md", import.meta.url), `${INTRO}\n${settingsMarkdown().trim()}\n`);
writeFileSync(new URL("../docs/settings.schema.json", import.meta.url), settingsSchema());
