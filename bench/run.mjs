/**
 * `npm run bench`: counts, which decide, and ratios, which tell. `-- --counts` for the counts alone,
 * `-- --update` to commit new ones to counts.json.
 */
import { execFileSync } from "node:child_process";
import { runCounts } from "./counts.mjs";

const flags = new Set(process.argv.slice(2));
for (const flag of flags) {
  if (flag === "--counts" || flag === "--update") continue;
  console.error(`bench: unknown option ${flag}; --counts and --update are known`);
  process.exit(2);
}
await runCounts({ update: flags.has("--update") });
if (!flags.has("--counts") && !flags.has("--update")) {
  for (const name of ["ratios.mjs", "write-ratios.mjs"]) {
    const script = new URL(name, import.meta.url).pathname;
    execFileSync(process.execPath, [script], { stdio: "inherit" });
  }
}
