/**
 * `npm start [-- IMAGE [OPTIONS]]`: what is in an image, or in the small one that comes with quire.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

/** The image that is shipped packed, unpacked once. */
function defaultImage() {
  const folder = fileURLToPath(new URL("../.quire/", import.meta.url));
  const path = `${folder}demo.img`;
  if (!existsSync(path)) {
    const packed = readFileSync(new URL("../test/fixtures/demo.img.gz", import.meta.url));
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${path}.new`, gunzipSync(packed));
    renameSync(`${path}.new`, path);
  }
  return path;
}

const args = process.argv.slice(2);
const given = args.length > 0 && !args[0].startsWith("-");
process.argv.splice(2, Infinity, "overview", ...(given ? args : [defaultImage(), ...args]));
await import("../dist/front/cli/main.js");
