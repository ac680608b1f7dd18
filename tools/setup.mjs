/**
 * All set-up that `npm start` and `npm test` need, done once: dependencies, then the build.
 *
 * A stamp of the lock file in node_modules tells that the dependencies are those of this tree, so a second
 * run installs nothing; the compiler's own build information does the same for the build.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const stampPath = `${root}node_modules/.quire-setup`;

function run(command, args, folder = root) {
  const done = spawnSync(command, args, { cwd: folder, stdio: ["ignore", "inherit", "inherit"] });
  if (done.status === 0) return;
  console.error(
    `quire: "${command} ${args.join(" ")}" failed${done.error ? `: ${done.error.message}` : ""}`,
  );
  process.exit(1);
}

function install(folder, stamp) {
  const lock = readFileSync(`${folder}package-lock.json`);
  const wanted = createHash("sha256").update(lock).update(process.version).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  console.error("quire: installing dependencies, once");
  // Not `ci`, which refuses a lock file made where a registry lacks packages of other platforms.
  run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], folder);
  writeFileSync(stamp, wanted);
}

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`quire: Node 20.19 or newer is needed, this is ${process.version}`);
  process.exit(1);
}

install(root, stampPath);
for (const [flag, folder] of [
  ["--bench", "bench/"],
  ["--docs", "tools/docs/"],
]) {
  if (!process.argv.includes(flag)) continue;
  install(root + folder, `${root}${folder}node_modules/.quire-setup`);
}
run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "-b"]);
