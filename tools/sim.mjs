/**
 * `npm run sim [-- --factor K --seed N]`: every random test with K times as many runs (default 20).
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const options = { factor: { type: "string", default: "20" }, seed: { type: "string" } };
const { values } = parseArgs({ options });

const files = ["src", "test"]
  .flatMap((folder) =>
    readdirSync(`${root}${folder}`, { recursive: true }).map((at) => `${folder}/${at}`),
  )
  .filter((path) => path.endsWith(".test.ts"))
  .filter((path) => readFileSync(`${root}${path}`, "utf8").includes("support/runs.ts"));

console.log(
  `sim: ${files.length} files, ${values.factor} times the runs, seed ${values.seed ?? "of each"}`,
);
const env = { ...process.env, QUIRE_RUN_FACTOR: values.factor };
if (values.seed !== undefined) env.QUIRE_SEED = values.seed;
const vitest = `${root}node_modules/vitest/vitest.mjs`;
const args = [vitest, "run", "--testTimeout=0", ...files];
process.exit(spawnSync(process.execPath, args, { cwd: root, env, stdio: "inherit" }).status ?? 1);
