// Rewrites the docs that follow from tables in the code: node dist/docs.js
import { writeFileSync } from "node:fs";

import { settingsMarkdown } from "./train/settings/settings.js";

const INTRO = `# Settings of \`revmoe train\`

Flags come before the YAML file, the file before the defaults. A flag is the name with dashes: \`--learning-rate 1e-5\`;
\`--packing\` and \`--no-packing\` switch a boolean. Made from the table in \`src/train/settings/rows.ts\` by \`node dist/docs.js\`.
`;

writeFileSync(new URL("../docs/settings.md", import.meta.url), `${INTRO}\n${settingsMarkdown().trim()}\n`);
