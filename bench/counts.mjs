/**
 * How many requests reach the store: figures without noise, compared with those of `counts.json`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { openFileStore, openImage } from "../dist/index.js";
import { CountingStore } from "../dist/store/index.js";
import { benchImage, LARGE_BYTES, MIB } from "./fixtures.mjs";

const file = new URL("counts.json", import.meta.url);

async function counted(task, options = {}) {
  const store = new CountingStore(await openFileStore(benchImage().image));
  const image = await openImage(store, options);
  const result = await task(image, store).finally(() => image.close());
  if (store.writes > 0) throw new Error(`${store.writes} writes to a read-only image`);
  return result;
}

async function readThrough(handle, callBytes) {
  const buffer = Buffer.alloc(callBytes);
  for (let at = 0; at < LARGE_BYTES; at += callBytes) await handle.read(buffer, 0, callBytes, at);
}

/** Reads of the store for the 200 MiB file, first and again, in calls of `callBytes`. */
function sequential(callBytes) {
  return counted(async (image, store) => {
    const handle = await image.fs.open("/large.bin");
    store.reset();
    await readThrough(handle, callBytes);
    const cold = store.reads;
    store.reset();
    await readThrough(handle, callBytes);
    return { cold, hot: store.reads };
  });
}

/** Walks all small files and asks `stat` of each; returns how many there were. */
export async function walkAndStat(fs, path) {
  let seen = 0;
  for (const name of await fs.readdir(path)) {
    const below = `${path}/${name}`;
    const stats = await fs.stat(below);
    seen += 1;
    if (stats.isDirectory()) seen += await walkAndStat(fs, below);
  }
  return seen;
}

function walk() {
  return counted(async (image, store) => {
    store.reset();
    const files = await walkAndStat(image.fs, "/small");
    const cold = store.reads;
    store.reset();
    await walkAndStat(image.fs, "/small");
    return { files, cold, hot: store.reads };
  });
}

function random() {
  return counted(async (image, store) => {
    const handle = await image.fs.open("/large.bin");
    const buffer = Buffer.alloc(4096);
    await handle.read(buffer, 0, 4096, LARGE_BYTES - 4096);
    store.reset();
    for (let n = 0; n < 1000; n++) {
      const page = 1 + ((n * 1009) % 3190); // All different, never next to one another.
      await handle.read(buffer, 0, 4096, page * 16 * 4096);
    }
    return { reads: store.reads, pages: 1000 };
  });
}

function mount() {
  return counted(async (_image, store) => store.reads);
}

/** Measures all, prints them, and fails if one is more than the committed figure. */
export async function runCounts({ update }) {
  const calls1m = await sequential(MIB);
  const calls4k = await sequential(4096);
  const walked = await walk();
  const picked = await random();
  const counts = {
    "open the image: store reads": await mount(),
    "200 MiB sequential, calls of 1 MiB: store reads": calls1m.cold,
    "the same again, hot": calls1m.hot,
    "200 MiB sequential, calls of 4 KiB: store reads": calls4k.cold,
    "the same again, hot ": calls4k.hot,
    "walk and stat 2,050 entries: store reads": walked.cold,
    "the same again, hot  ": walked.hot,
    "1,000 random reads of 4 KiB: store reads": picked.reads,
  };
  const committed = update ? counts : JSON.parse(readFileSync(file, "utf8"));
  let isWorse = false;
  for (const [name, value] of Object.entries(counts)) {
    const bound = committed[name];
    const verdict =
      value === bound ? "" : value < bound ? `  better than ${bound}` : `  WORSE than ${bound}`;
    if (bound === undefined || value > bound) isWorse = true;
    console.log(`${String(value).padStart(8)}  ${name.trim()}${verdict}`);
  }
  if (update) writeFileSync(file, `${JSON.stringify(counts, null, 2)}\n`);
  if (isWorse) throw new Error("a count is worse than the one in bench/counts.json");
}
