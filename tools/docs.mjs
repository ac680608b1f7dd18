/**
 * `npm run docs`: the API pages in dist/docs, made from the doc comments of the public entries.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("docs/", import.meta.url));
const done = spawnSync("npm", ["exec", "--no", "--", "typedoc"], { cwd: folder, stdio: "inherit" });
process.exit(done.status ?? 1);
