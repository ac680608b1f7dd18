/**
 * A process that writes into an image until it is killed, and tells of each file that is durable:
 *
 *     node writing-child.mjs IMAGE SEED        log 3 120     log-3 has 120 records
 *                                              doc 1 17      doc-1 was replaced by its version 17
 */
import { writeSync } from "node:fs";
import { openImage } from "../../../dist/index.js";
import { docBytes, recordBytes } from "./written-bytes.mjs";

const [, , image, seedText] = process.argv;
let state = Number(seedText);

/** A number from 0 to `limit` - 1, the same for each seed. */
function below(limit) {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  return (state >>> 8) % limit;
}

function tell(line) {
  writeSync(1, `${line}\n`); // At once: what is told last is what the parent has read.
}

const volume = await openImage(image, { writable: true, cache: "4MiB" });
const { fs } = volume;
await fs.mkdir("/d");
const logs = [0, 0, 0, 0];
const docs = [0, 0, 0, 0];
for (;;) {
  const at = below(4);
  if (below(3) > 0) {
    const handle = await fs.open(`/d/log-${at}`, "a");
    const count = 1 + below(20);
    for (let n = 0; n < count; n++) await handle.write(recordBytes(at, logs[at]++));
    if (below(2) === 0) {
      await (below(2) === 0 ? handle.sync() : handle.datasync());
      tell(`log ${at} ${logs[at]}`);
    }
    await handle.close();
  } else {
    const version = ++docs[at];
    const handle = await fs.open("/d/new", "w");
    await handle.writeFile(docBytes(at, version));
    await handle.sync();
    await handle.close();
    await fs.rename("/d/new", `/d/doc-${at}`);
    if (below(2) === 0) {
      const dir = await fs.open("/d", "r");
      await dir.sync();
      await dir.close();
      tell(`doc ${at} ${version}`);
    }
  }
}
