/**
 * Speeds beside those of others, interleaved in one run, as ratios: the machine's noise hits both sides.
 *
 * Each pair runs its two sides turn by turn; the median of the ratios of the turns is what counts.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, promises, readSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { LRUCache } from "lru-cache";
import { memfs } from "memfs";
import { cached, openFileStore, openImage } from "../dist/index.js";
import { walkAndStat } from "./counts.mjs";
import { benchImage, LARGE_BYTES, MIB } from "./fixtures.mjs";
import { row as rowOf } from "./row.mjs";
import { tarOut } from "./tar-out.mjs";

const require = createRequire(import.meta.url);
const TURNS = 11;
/** Turns before them, in which engines compile what is hot. */
const WARM_TURNS = 6;
const CACHE = "320MiB";

const row = (name, goal, sides, turns = TURNS, before = () => {}) =>
  rowOf(name, goal, sides, turns, WARM_TURNS, before);

function offsetsIn(setBytes, count) {
  const offsets = new Float64Array(count);
  let state = 99;
  for (let at = 0; at < count; at++) {
    state = (state * 48271) % 2147483647;
    offsets[at] = (state % (setBytes / 4096)) * 4096;
  }
  return offsets;
}

/** A file of the page cache's own, without a file system, of the size of the largest working set. */
async function hotRows(path) {
  const file = await cached(await openFileStore(path), { cache: CACHE });
  const large = Buffer.alloc(MIB);
  const size = 256 * MIB;
  for (let at = 0; at < size; at += MIB) await file.readInto(at, large);
  const fd = openSync(path, "r");
  const handle = await promises.open(path);
  const lru = new LRUCache({ max: 70_000 });
  for (let at = 0; at < size; at += 4096) lru.set(at, Buffer.alloc(4096));
  const { vol } = memfs();
  const small = Buffer.alloc(4096);
  for (const setBytes of [MIB, 256 * MIB]) {
    const offsets = offsetsIn(setBytes, 50_000);
    const name = `hot 4 KiB synchronous reads, set of ${setBytes / MIB} MiB`;
    await row(name, setBytes === MIB ? 2.5 : 1.0, {
      quire: () => {
        for (const at of offsets) file.readSync(at, small);
      },
      "fs.readSync": () => {
        for (const at of offsets) readSync(fd, small, 0, 4096, at);
      },
      "lru-cache with copy": () => {
        for (const at of offsets) small.set(lru.get(at));
      },
    });
  }
  lru.clear();
  const few = offsetsIn(MIB, 5000);
  vol.writeFileSync("/memfs", Buffer.alloc(64 * MIB));
  const mem = await vol.promises.open("/memfs", "r");
  await row("hot 4 KiB reads by promise, one at a time, set of 1 MiB", 10, {
    quire: async () => {
      for (const at of few) await file.readInto(at, small);
    },
    "FileHandle.read": async () => {
      for (const at of few) await handle.read(small, 0, 4096, at);
    },
    "memfs FileHandle.read": async () => {
      for (const at of few) await mem.read(small, 0, 4096, at % (64 * MIB));
    },
  });
  await row("hot sequential reads of 1 MiB", 1.5, {
    quire: () => {
      for (let at = 0; at < size; at += MIB) file.readSync(at, large);
    },
    "fs.readSync": () => {
      for (let at = 0; at < size; at += MIB) readSync(fd, large, 0, MIB, at);
    },
  });
  closeSync(fd);
  await handle.close();
  await file.close();
}

/** Makes the host forget what it has of all files, where that is allowed. */
function dropHostCache() {
  if (process.getuid?.() === 0)
    execFileSync("sh", ["-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]);
}

async function coldRow(image) {
  const large = Buffer.alloc(MIB);
  const readQuire = async () => {
    const volume = await openImage(image, { cache: CACHE });
    const handle = await volume.fs.open("/large.bin");
    for (let at = 0; at < LARGE_BYTES; at += MIB) await handle.read(large, 0, MIB, at);
    await volume.close();
  };
  const readRaw = async () => {
    const handle = await promises.open(image);
    for (let at = 0; at < LARGE_BYTES; at += MIB) await handle.read(large, 0, MIB, at);
    await handle.close();
  };
  const sides = { quire: readQuire, "raw FileHandle.read of the image": readRaw };
  await row("cold sequential read of 200 MiB, from the disk", 0.85, sides, TURNS, dropHostCache);
  await row("the same with the host's cache warm (no goal)", 0, sides);
}

async function walkRow(image) {
  const { mount, umount } = require("ext2fs");
  const { FileDisk, withOpenFile } = require("file-disk");
  await withOpenFile(image, "r", async (handle) => {
    await row("open, walk and stat 2,050 entries, cold", 20, {
      quire: async () => {
        const volume = await openImage(image);
        await walkAndStat(volume.fs, "/small");
        await volume.close();
      },
      ext2fs: async () => {
        const fs = await mount(new FileDisk(handle, true), 0);
        await walkAndStat(fs.promises, "/small");
        await umount(fs);
      },
    });
  });
}

async function tarRow(image) {
  const folder = mkdtempSync(`${tmpdir()}/quire-bench-`);
  try {
    await row("the whole image as a tar stream", 1.0, {
      quire: () => tarOut(image),
      "loop mount and tar": () => {
        execFileSync("mount", ["-o", "loop,ro", image, folder]);
        // Through a pipe, as tar reads nothing when it sees that it writes to /dev/null.
        spawnSync("sh", ["-c", `tar -C ${folder} -c . | cat > /dev/null`]);
        execFileSync("umount", [folder]);
      },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Peak memory of a process that reads the image through a 64 MiB cache. */
function memoryRow(image) {
  const script = new URL("peak-memory.mjs", import.meta.url).pathname;
  const peak = Number(execFileSync(process.execPath, [script, image]).toString());
  const bound = 64 * MIB + 96 * MIB;
  const verdict = peak <= bound ? "met" : "MISSED";
  console.log("peak memory, 64 MiB cache");
  console.log(`    ${(peak / MIB).toFixed(0)} MiB, goal ${bound / MIB} MiB: ${verdict}`);
}

function tarRowAsRoot(image) {
  if (process.getuid?.() === 0) return tarRow(image);
  console.log("the whole image as a tar stream: skipped, loop mounts need root");
}

const GROUPS = {
  hot: hotRows,
  cold: coldRow,
  walk: walkRow,
  tar: tarRowAsRoot,
  memory: memoryRow,
};

/** One group of rows, or each in a process of its own: what one leaves behind would slow the next. */
const { image } = benchImage();
const group = process.argv[2];
if (group !== undefined) {
  await GROUPS[group](image);
} else {
  console.log(`image of ${statSync(image).size / MIB} MiB, medians of ${TURNS} turns`);
  for (const name of Object.keys(GROUPS)) {
    const script = new URL(import.meta.url).pathname;
    execFileSync(process.execPath, [script, name], { stdio: "inherit" });
  }
}
