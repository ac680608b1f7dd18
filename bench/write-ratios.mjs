/**
 * Writing beside others, interleaved, as ratios: npm's ext2fs, `mke2fs -d`, `debugfs`, and the
 * kernel on a loop mount (as root). A group of rows runs in a process of its own:
 *
 *     node bench/write-ratios.mjs [write|names|overwrite|fsync|build|extract]
 */
import { execFileSync } from "node:child_process";
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { openImage } from "../dist/index.js";
import { benchImage, MIB } from "./fixtures.mjs";
import { row } from "./row.mjs";

const require = createRequire(import.meta.url);
const TURNS = 5;
const NAMES = 10_000;
const WRITE_BYTES = 100 * MIB;
const isRoot = process.getuid?.() === 0;
const folder = mkdtempSync(`${tmpdir()}/quire-bench-`);
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, MKE2FS_SYNC: "0" };

const tool = (name, args) => execFileSync(name, args, { env, stdio: ["ignore", "pipe", "ignore"] });

function freshImage(name, size = "1G", type = "ext4") {
  const path = `${folder}/${name}`;
  rmSync(path, { force: true });
  tool("mke2fs", ["-q", "-F", "-t", type, "-b", "4096", path, size]);
  return path;
}

/** A loop mount of a fresh image, for `task`. */
function onLoop(name) {
  const image = freshImage(name);
  const root = `${folder}/${name}.d`;
  mkdirSync(root, { recursive: true });
  tool("mount", ["-o", "loop", image, root]);
  return { root, end: () => tool("umount", [root]) };
}

async function writeRows() {
  const chunk = Buffer.alloc(MIB, 0x5a);
  const sides = {
    quire: async () => {
      const volume = await openImage(freshImage("quire.img"), { writable: true });
      const handle = await volume.fs.open("/large", "w");
      for (let at = 0; at < WRITE_BYTES; at += MIB) await handle.write(chunk);
      await handle.sync();
      await handle.close();
      await volume.close();
    },
    ext2fs: async () => {
      const { mount, umount } = require("ext2fs");
      const { FileDisk, withOpenFile } = require("file-disk");
      await withOpenFile(freshImage("ext2fs.img"), "r+", async (handle) => {
        const fs = await mount(new FileDisk(handle), 0);
        const file = await fs.promises.open("/large", "w");
        for (let at = 0; at < WRITE_BYTES; at += MIB) await file.write(chunk, 0, MIB, at);
        await file.close();
        await umount(fs);
      });
    },
  };
  if (isRoot) {
    sides["kernel, loop mount"] = async () => {
      const loop = onLoop("loop.img");
      const fd = openSync(`${loop.root}/large`, "w");
      for (let at = 0; at < WRITE_BYTES; at += MIB) writeSync(fd, chunk);
      fsyncSync(fd);
      closeSync(fd);
      loop.end();
    };
  }
  await row("100 MiB sequential into a new file, mkfs to close", 0, sides, TURNS, 1);
}

async function namesRows() {
  const volume = await openImage(freshImage("names.img"), { writable: true });
  await volume.fs.mkdir("/d");
  const loop = isRoot ? onLoop("names-loop.img") : undefined;
  const phases = {
    create: {
      quire: async (name) => (await volume.fs.open(`/d/${name}`, "w")).close(),
      kernel: (name) => closeSync(openSync(`${loop.root}/${name}`, "w")),
    },
    rename: {
      quire: (name) => volume.fs.rename(`/d/${name}`, `/d/${name}.new`),
      kernel: (name) => renameSync(`${loop.root}/${name}`, `${loop.root}/${name}.new`),
    },
    unlink: {
      quire: (name) => volume.fs.unlink(`/d/${name}.new`),
      kernel: (name) => unlinkSync(`${loop.root}/${name}.new`),
    },
  };
  const rates = {};
  for (const phase of Object.keys(phases)) rates[phase] = { quire: [], kernel: [] };
  for (let turn = 0; turn < TURNS + 2; turn++) {
    for (const [phase, sides] of Object.entries(phases)) {
      for (const side of loop === undefined ? ["quire"] : ["quire", "kernel"]) {
        const start = process.hrtime.bigint();
        for (let n = 0; n < NAMES; n++) await sides[side](`name-${n}`);
        const ms = Number(process.hrtime.bigint() - start) / 1e6;
        if (turn >= 2) rates[phase][side].push(NAMES / ms);
      }
    }
  }
  await volume.close();
  loop?.end();
  for (const [phase, sides] of Object.entries(rates)) {
    const measured = Object.entries(sides).filter(([, list]) => list.length > 0);
    const shown = measured.map(
      ([side, list]) => `${side} ${list.sort((a, b) => a - b)[list.length >> 1].toFixed(1)} K/s`,
    );
    console.log(
      `${phase} in a directory of 10,000, through the API, goal 50 K/s\n    ${shown.join(", ")}`,
    );
  }
}

async function overwriteRows() {
  const block = Buffer.alloc(4096, 0x33);
  const count = 10_000;
  const fileBlocks = (256 * MIB) / 4096;
  const offset = (n) => ((n * 48_271) % fileBlocks) * 4096;
  const fill = Buffer.alloc(MIB, 1);
  const volume = await openImage(freshImage("over.img"), { writable: true });
  const handle = await volume.fs.open("/large", "w+");
  for (let at = 0; at < 256; at++) await handle.write(fill);
  await handle.sync();
  const sides = {
    quire: async () => {
      for (let n = 0; n < count; n++) await handle.write(block, 0, 4096, offset(n));
      await handle.sync();
    },
  };
  let loop;
  if (isRoot) {
    loop = onLoop("over-loop.img");
    const fd = openSync(`${loop.root}/large`, "w+");
    for (let at = 0; at < 256; at++) writeSync(fd, fill);
    fsyncSync(fd);
    sides["kernel, loop mount"] = () => {
      for (let n = 0; n < count; n++) writeSync(fd, block, 0, 4096, offset(n));
      fsyncSync(fd);
    };
    loop.fd = fd;
  }
  await row("10,000 random overwrites of 4 KiB in 256 MiB, then fsync", 0, sides, TURNS, 1);
  await handle.close();
  await volume.close();
  if (loop !== undefined) {
    closeSync(loop.fd);
    loop.end();
  }
}

async function fsyncRows() {
  const count = 200;
  const block = Buffer.alloc(4096, 0x44);
  const volume = await openImage(freshImage("fsync.img"), { writable: true });
  const loop = isRoot ? onLoop("fsync-loop.img") : undefined;
  const byQuire = async (handle) => {
    for (let n = 0; n < count; n++) {
      await handle.write(block, 0, 4096, n * 4096);
      await handle.sync();
    }
  };
  const byHost = (fd, sync) => {
    for (let n = 0; n < count; n++) {
      writeSync(fd, block, 0, 4096, n * 4096);
      sync(fd);
    }
  };
  const handle = await volume.fs.open("/journal", "w");
  const raw = openSync(`${folder}/raw`, "w");
  const onKernel = loop && openSync(`${loop.root}/journal`, "w");
  const overwrites = {
    quire: () => byQuire(handle),
    "raw write and fdatasync": () => byHost(raw, fdatasyncSync),
  };
  if (loop !== undefined) overwrites["kernel, loop mount"] = () => byHost(onKernel, fsyncSync);
  await row("200 times 4 KiB and fsync, the same blocks each time", 0.5, overwrites, TURNS, 1);
  let turn = 0;
  const appended = (root) => {
    const fd = openSync(`${root}/appended-${turn++}`, "w");
    byHost(fd, root === folder ? fdatasyncSync : fsyncSync);
    closeSync(fd);
  };
  const appends = {
    quire: async () => {
      const grown = await volume.fs.open(`/appended-${turn++}`, "w");
      await byQuire(grown);
      await grown.close();
    },
    "raw write and fdatasync": () => appended(folder),
  };
  if (loop !== undefined) appends["kernel, loop mount"] = () => appended(loop.root);
  await row("200 times 4 KiB at the end of a file and fsync", 0.5, appends, TURNS, 1);
  const handles = [];
  for (let n = 0; n < 32; n++) handles.push(await volume.fs.open(`/p${n}`, "w"));
  await row(
    "32 files, each written and synced, all at once against one by one",
    1,
    {
      "all at once": () =>
        Promise.all(handles.map((one) => one.write(block, 0, 4096, 0).then(() => one.sync()))),
      "one by one": async () => {
        for (const one of handles) {
          await one.write(block, 0, 4096, 0);
          await one.sync();
        }
      },
    },
    TURNS,
    1,
  );
  for (const one of handles) await one.close();
  await handle.close();
  await volume.close();
  closeSync(raw);
  if (loop !== undefined) {
    closeSync(onKernel);
    loop.end();
  }
}

/** 5,000 files, 300 MiB. */
function buildTree() {
  const tree = `${folder}/tree`;
  for (let n = 0; n < 5000; n++) {
    const directory = `${tree}/d${n % 100}`;
    if (n < 100) mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/f${n}`, Buffer.alloc(61_440 + (n % 7) * 512, n));
  }
  return tree;
}

async function buildRows() {
  const tree = buildTree();
  const cli = new URL("../dist/front/cli/main.js", import.meta.url).pathname;
  const sides = {
    quire: () =>
      tool(process.execPath, [cli, "mkfs", `${folder}/q.img`, "--size", "512M", "--from", tree]),
    "mke2fs -d": () =>
      tool("mke2fs", ["-q", "-F", "-t", "ext4", "-d", tree, `${folder}/m.img`, "512M"]),
  };
  const before = () => {
    rmSync(`${folder}/q.img`, { force: true });
    rmSync(`${folder}/m.img`, { force: true });
  };
  await row("image of 5,000 files, 300 MiB", 1 / 1.5, sides, TURNS, 1, before);
}

async function extractRows() {
  const { image } = benchImage();
  const cli = new URL("../dist/front/cli/main.js", import.meta.url).pathname;
  const before = () => {
    rmSync(`${folder}/out-q`, { recursive: true, force: true });
    rmSync(`${folder}/out-d`, { recursive: true, force: true });
    mkdirSync(`${folder}/out-d`);
  };
  const sides = {
    quire: () => tool(process.execPath, [cli, "get", image, "/", `${folder}/out-q`]),
    "debugfs rdump": () => tool("debugfs", ["-R", `rdump / ${folder}/out-d`, image]),
  };
  await row("full extraction, 2,000 files and 200 MiB", 1 / 1.1, sides, TURNS, 1, before);
}

const GROUPS = {
  write: writeRows,
  names: namesRows,
  overwrite: overwriteRows,
  fsync: fsyncRows,
  build: buildRows,
  extract: extractRows,
};

try {
  const group = process.argv[2];
  if (group !== undefined) await GROUPS[group]();
  else {
    for (const name of Object.keys(GROUPS)) {
      const script = new URL(import.meta.url).pathname;
      execFileSync(process.execPath, [script, name], { stdio: "inherit" });
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
