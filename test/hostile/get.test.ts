/**
 * `quire get` against trees that try to write elsewhere: nothing outside of the destination
 * changes.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { CommandContext } from "../../src/front/cli/command.ts";
import { type GetOptions, runGet } from "../../src/front/cli/get.ts";
import { openVolume, type Volume } from "../../src/front/volume.ts";
import { EXTENTS_FL, INODE, S_IFDIR, S_IFLNK, S_IFREG } from "../../src/fs/ext/layout.ts";
import type { DirectoryEntry, FileSystem, VfsInode } from "../../src/fs/vfs.ts";
import { putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { type Record as DirRecord, putDirBlock } from "../support/ext-names.ts";
import { makeRich } from "../support/hostile-images.ts";
import { ImagePatch } from "../support/hostile-patch.ts";
import { asRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "e2fsck"].map(requireTool).every(Boolean);
const directory = scratchDirectory("get");
/** Everything outside the destination that may be hit lies in here. */
const parent = join(directory, "parent");
const destination = join(parent, "in", "destination");
const MINUTES_MS = 300_000;

let patch: ImagePatch;
/** Inodes of empty files, to become anything. */
let spare: number[];
/** Blocks to be filled with anything. */
let blocks: number[];

beforeAll(async () => {
  if (!hasTools) return;
  patch = await ImagePatch.of(makeRich(directory, "ext2"));
  spare = [...patch.inos].filter(([path]) => path.startsWith("indexed/")).map(([, ino]) => ino);
  blocks = patch.placesOf("content", "large").map((place) => patch.blockOf(place));
});

beforeEach(() => {
  if (hasTools) patch.reset();
  rmSync(parent, { recursive: true, force: true });
  mkdirSync(join(parent, "in"), { recursive: true });
  mkdirSync(join(parent, "outside"));
  writeFileSync(join(parent, "outside", "file"), "sentinel");
  writeFileSync(join(parent, "file"), "sentinel");
  writeFileSync(join(parent, "in", "file"), "sentinel");
  chmodSync(join(parent, "outside", "file"), 0o640);
});

/** All that lies in `parent` but the destination, as text that changes with any of it. */
function scanOutside(): string {
  const lines: string[] = [];
  const visit = (path: string): void => {
    if (path === destination) return;
    const { mode, nlink, size, uid, mtimeNs } = lstatSync(path, { bigint: true });
    const content = lstatSync(path).isFile() ? readFileSync(path, "latin1") : "";
    // The directory that holds the destination changes with it.
    const time = path === join(parent, "in") ? "" : mtimeNs;
    const links = path === join(parent, "in") ? "" : nlink;
    lines.push([path, mode, links, size * BigInt(content !== ""), uid, time, content].join(" "));
    if (lstatSync(path).isDirectory())
      for (const name of readdirSync(path)) visit(join(path, name));
  };
  visit(parent);
  return lines.sort().join("\n");
}

interface Got {
  readonly said: string;
  readonly exitCode: number;
}

/** Runs `get` of all of the volume in `bytes`; `wrap` may put another file system over its own. */
async function get(
  bytes: Uint8Array,
  options: GetOptions = {},
  wrap: (fs: FileSystem) => FileSystem = (fs) => fs,
): Promise<Got> {
  let said = "";
  let exitCode = 0;
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done): void {
      said += chunk.toString();
      done();
    },
  });
  const context: CommandContext = {
    stdout: sink,
    stderr: sink,
    signal: new AbortController().signal,
    fail: (code) => {
      exitCode = Math.max(exitCode, code);
    },
  };
  await using volume = await openVolume(new MemoryStore(bytes, { canWrite: false }), {
    cache: 4 * MIB,
  });
  const seen = new Proxy(volume, {
    get: (target, key) => {
      if (key === "fileSystem") return wrap(target.fileSystem);
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  }) as Volume;
  try {
    await runGet(seen, "/", destination, { owner: false, xattrs: false, ...options }, context);
  } catch (thrown) {
    said += String(thrown);
    exitCode ||= 1;
  }
  return { said, exitCode };
}

/** Makes a spare inode a symlink. */
function putSymlink(ino: number, target: string): void {
  const raw = patch.inode(ino);
  const bytes = Buffer.from(target);
  putLe16(raw, INODE.i_mode, S_IFLNK | 0o777);
  putLe32(raw, INODE.i_size_lo, bytes.length);
  raw.fill(0, INODE.i_block, INODE.i_block + 60);
  raw.set(bytes.subarray(0, 59), INODE.i_block);
}

/** Makes a spare inode a file of one block with a text. */
function putFile(ino: number, blocknr: number, text: string, links = 1): void {
  const raw = patch.inode(ino);
  patch.block(blocknr).fill(0).set(Buffer.from(text));
  putLe16(raw, INODE.i_mode, S_IFREG | 0o644);
  putLe16(raw, INODE.i_links_count, links);
  putLe32(raw, INODE.i_size_lo, text.length);
  patch.putPointer(ino, 0, blocknr);
}

/** Makes a spare inode a directory of one block with these names. */
function putDirectory(ino: number, blocknr: number, records: readonly DirRecord[]): void {
  const raw = patch.inode(ino);
  putDirBlock(patch.block(blocknr), [[ino, ".", 2], [2, "..", 2], ...records]);
  putLe16(raw, INODE.i_mode, S_IFDIR | 0o755);
  putLe16(raw, INODE.i_links_count, 2);
  putLe32(raw, INODE.i_size_lo, KIB);
  raw.fill(0, INODE.i_block, INODE.i_block + 60);
  patch.putPointer(ino, 0, blocknr);
}

/** Puts these names, and nothing else, into the root. */
function setRoot(records: readonly DirRecord[]): void {
  putDirectory(2, blocks[0]!, records);
}

const FILE = 1;
const DIR = 2;
const LINK = 7;

/** Replays of published tricks; each fills the root with names. */
const TRICKS: readonly (readonly [string, () => void])[] = [
  [
    "a directory with the name of a symlink before it",
    (): void => {
      putSymlink(spare[0]!, "../../outside");
      putFile(spare[1]!, blocks[1]!, "evil");
      putDirectory(spare[2]!, blocks[2]!, [[spare[1]!, "file", FILE]]);
      setRoot([
        [spare[0]!, "x", LINK],
        [spare[2]!, "x", DIR],
      ]);
    },
  ],
  [
    "a directory that a symlink of its name follows",
    (): void => {
      putSymlink(spare[0]!, join(parent, "outside"));
      putFile(spare[1]!, blocks[1]!, "evil");
      putDirectory(spare[2]!, blocks[2]!, [[spare[1]!, "file", FILE]]);
      setRoot([
        [spare[2]!, "x", DIR],
        [spare[0]!, "x", LINK],
      ]);
    },
  ],
  [
    "a file with the name of a symlink to a file outside",
    (): void => {
      putSymlink(spare[0]!, "../file");
      putFile(spare[1]!, blocks[1]!, "evil");
      setRoot([
        [spare[0]!, "x", LINK],
        [spare[1]!, "x", FILE],
      ]);
    },
  ],
  [
    "a second name of a symlink that leads outside",
    (): void => {
      putSymlink(spare[0]!, "../../outside/file");
      putLe16(patch.inode(spare[0]!), INODE.i_links_count, 2);
      setRoot([
        [spare[0]!, "a", FILE],
        [spare[0]!, "b", FILE],
      ]);
    },
  ],
  [
    "a symlink through another one",
    (): void => {
      putSymlink(spare[0]!, ".");
      putSymlink(spare[1]!, "a/../../outside");
      putSymlink(spare[2]!, "b/file");
      setRoot([
        [spare[0]!, "a", LINK],
        [spare[1]!, "b", LINK],
        [spare[2]!, "c", LINK],
      ]);
    },
  ],
  [
    "names that differ in their case alone",
    (): void => {
      putSymlink(spare[0]!, "../../outside");
      putFile(spare[1]!, blocks[1]!, "evil");
      putDirectory(spare[2]!, blocks[2]!, [[spare[1]!, "file", FILE]]);
      setRoot([
        [spare[0]!, "X", LINK],
        [spare[2]!, "x", DIR],
      ]);
    },
  ],
  [
    "names that are paths",
    (): void => {
      putFile(spare[1]!, blocks[1]!, "evil");
      setRoot([
        [spare[1]!, "../file", FILE],
        [spare[1]!, join(parent, "file"), FILE],
      ]);
    },
  ],
  [
    "a file of names __proto__ and constructor",
    (): void => {
      putFile(spare[1]!, blocks[1]!, "evil", 2);
      putDirectory(spare[2]!, blocks[2]!, [[spare[1]!, "polluted", FILE]]);
      setRoot([
        [spare[2]!, "__proto__", DIR],
        [spare[1]!, "constructor", FILE],
      ]);
    },
  ],
];

describe.skipIf(!hasTools)("published tricks", () => {
  test.each(TRICKS)("%s", async (_name, craft) => {
    craft();
    const before = scanOutside();
    await get(patch.bytes);
    expect(scanOutside()).toBe(before);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  test("no symlink that leads out is made, unless it is asked for", async () => {
    const targets = ["../../outside", "/etc/passwd", "a/../../x", "..", "inside"];
    for (const [index, target] of targets.entries()) putSymlink(spare[index]!, target);
    setRoot(targets.map((_target, index): DirRecord => [spare[index]!, `l${index}`, LINK]));
    expect((await get(patch.bytes)).exitCode).toBe(1);
    expect(readdirSync(destination)).toEqual(["l4"]);
    rmSync(destination, { recursive: true });
    const before = scanOutside();
    expect((await get(patch.bytes, { allowExternalSymlinks: true })).exitCode).toBe(0);
    expect(readlinkSync(join(destination, "l1"))).toBe("/etc/passwd");
    expect(scanOutside()).toBe(before);
  });

  test("a destination that is a symlink, or is not empty, is refused", async () => {
    const before = scanOutside();
    symlinkSync("../outside", destination);
    expect((await get(patch.bytes)).said).toContain("EEXIST");
    rmSync(destination);
    expect(scanOutside()).toBe(before);
    mkdirSync(destination);
    writeFileSync(join(destination, "there"), "");
    mkdirSync(join(destination, "image"));
    expect((await get(patch.bytes)).said).toContain("EEXIST");
  });
});

/** Gives names of the root that begin with "@" out as others, past all checks of the reader. */
function renaming(names: ReadonlyMap<string, string>): (fs: FileSystem) => FileSystem {
  const rename = (entry: DirectoryEntry): DirectoryEntry => {
    const name = names.get(Buffer.from(entry.name).toString());
    return name === undefined ? entry : { ...entry, name: Buffer.from(name) };
  };
  return (fs) =>
    new Proxy(fs, {
      get: (target, key) => {
        if (key === "readdir") {
          return async (dir: VfsInode, cookie: number) => {
            const batch = await target.readdir(dir, cookie);
            return { ...batch, entries: batch.entries.map(rename) };
          };
        }
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
}

describe.skipIf(!hasTools)("names that a reader let pass", () => {
  test.each([
    "../file",
    "../../file",
    "../../outside/new",
    "sub/../../../file",
    "/tmp/quire-escaped",
    "a\0b",
    "",
  ])("%j is not made", async (name) => {
    putFile(spare[0]!, blocks[1]!, "evil");
    putFile(spare[1]!, blocks[2]!, "good");
    putDirectory(spare[2]!, blocks[3]!, [[spare[1]!, "inner", FILE]]);
    setRoot([
      [spare[0]!, "@1", FILE],
      [spare[2]!, "@2", DIR],
      [spare[1]!, "good", FILE],
    ]);
    const before = scanOutside();
    const wrap = renaming(new Map([["@1", name]]));
    const { said } = await get(patch.bytes, {}, wrap);
    expect(said).toContain("EINVAL");
    const asDirectory = await get(patch.bytes, {}, renaming(new Map([["@2", name]])));
    expect(asDirectory.exitCode).toBeGreaterThan(0);
    expect(scanOutside()).toBe(before);
    expect(existsSync("/tmp/quire-escaped")).toBe(false);
    expect(readdirSync(destination).sort()).toEqual(["@2", "good"]);
  });
});

describe.skipIf(!hasTools)("bombs", () => {
  test("a hole of 1 TiB stays a hole, and counts nothing", async () => {
    putFile(spare[0]!, blocks[1]!, "");
    putLe32(patch.inode(spare[0]!), INODE.i_size_high, 256);
    putLe32(patch.inode(spare[0]!), INODE.i_flags, EXTENTS_FL);
    patch.inode(spare[0]!).set([0x0a, 0xf3, 0, 0, 4, 0, 0, 0], INODE.i_block);
    setRoot([[spare[0]!, "hole", FILE]]);
    await get(patch.bytes, { maxBytes: MIB });
    const { size, blocks: sectors } = statSync(join(destination, "hole"));
    expect([size, sectors]).toEqual([2 ** 40, 0]);
  });

  test("one block behind many files stops at --max-bytes", async () => {
    for (const ino of spare.slice(0, 60)) putFile(ino, blocks[1]!, "x".repeat(KIB));
    setRoot(spare.slice(0, 60).map((ino, index): DirRecord => [ino, `${index}`, FILE]));
    const { said, exitCode } = await get(patch.bytes, { maxBytes: 16 * KIB });
    expect(said).toContain("--max-bytes");
    expect(exitCode).toBe(1);
    expect(readdirSync(destination).length).toBeLessThanOrEqual(17);
  });

  test("more names than --max-files stop", async () => {
    setRoot(spare.slice(0, 60).map((ino, index): DirRecord => [ino, `${index}`, FILE]));
    const { said, exitCode } = await get(patch.bytes, { maxFiles: 10 });
    expect(said).toContain("--max-files");
    expect(exitCode).toBe(1);
    expect(readdirSync(destination).length).toBeLessThanOrEqual(10);
  });
});

describe.skipIf(!hasTools)("privileges", () => {
  /** A device, a FIFO, a setuid program with capabilities and a trusted attribute. */
  function makePrivileged(): Uint8Array {
    const path = join(directory, "privileged.img");
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-I", "256", "-O", "^has_journal", path, "2M"]);
    const program = join(directory, "program");
    writeFileSync(program, "#!");
    const capability =
      "\\001\\000\\000\\002\\000\\040\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000";
    const commands = [
      "mknod null c 1 3",
      "mknod disk b 8 0",
      "mknod pipe p",
      `write ${program} program`,
      "set_inode_field program mode 0106755",
      `ea_set program security.capability "${capability}"`,
      "ea_set program trusted.secret value",
      "ea_set program user.plain value",
      "quit",
    ];
    runTool("debugfs", ["-w", path], { input: `${commands.join("\n")}\n` });
    return new Uint8Array(readFileSync(path));
  }

  test("are left out where they are not wanted", async () => {
    const wish = asRoot() ? { xattrs: true, special: false } : {};
    const { exitCode, said } = await get(makePrivileged(), wish);
    expect(readdirSync(destination).sort()).toEqual(["lost+found", "program"]);
    expect(statSync(join(destination, "program")).mode & 0o7777).toBe(0o755);
    expect(said).toContain("--special");
    expect(exitCode).toBe(1);
    if (!asRoot() || !requireTool("getfattr")) return;
    const shown = runTool("getfattr", [
      "-d",
      "-m",
      "-",
      "--absolute-names",
      join(destination, "program"),
    ]);
    expect(shown).not.toMatch(/capability|trusted/);
  });

  test.skipIf(!asRoot())("come along when they are asked for", async () => {
    await get(makePrivileged(), { xattrs: true, special: true, preservePrivileges: true });
    expect(lstatSync(join(destination, "null")).isCharacterDevice()).toBe(true);
    expect(lstatSync(join(destination, "pipe")).isFIFO()).toBe(true);
    expect(statSync(join(destination, "program")).mode & 0o7777).toBe(0o6755);
  });
});

const HOSTILE_NAMES = [
  "x",
  "X",
  "y",
  "file",
  "outside",
  "in",
  "...",
  "x ",
  "-rf",
  "\x1b[2J",
  "a\nb",
];
const HOSTILE_TARGETS = [
  ...[
    ".",
    "..",
    "../..",
    "../../outside",
    "../../outside/file",
    "../file",
    "/",
    "x",
    "y/..",
    "x/../..",
  ],
  ...["./../x", "y/x/file", "../x", "../../x/../../outside", "file", "///", "..//..//outside"],
];

/** A random tree of directories, files and links with the same few names, often twice. */
function putRandomTree(random: Random): void {
  const inos = random.shuffle(spare).slice(0, 24);
  const places = random.shuffle(blocks.slice(1));
  const directories: number[] = [2];
  const entries = new Map<number, DirRecord[]>([[2, []]]);
  for (const [index, ino] of inos.entries()) {
    const at = entries.get(random.pick(directories))!;
    const kind = random.pick([FILE, DIR, LINK, LINK]);
    if (kind === DIR) {
      directories.push(ino);
      entries.set(ino, []);
    } else if (kind === FILE) putFile(ino, places[index]!, `evil ${index}`, random.pick([1, 2]));
    else {
      const absolute = [join(parent, "outside"), join(parent, "file")];
      putSymlink(ino, random.pick([...HOSTILE_TARGETS, ...absolute]).slice(0, 59));
      if (random.chance(0.3)) putLe16(patch.inode(ino), INODE.i_links_count, 2);
    }
    at.push([ino, random.pick(HOSTILE_NAMES), random.chance(0.1) ? 0 : kind]);
    if (random.chance(0.3)) at.push([ino, random.pick(HOSTILE_NAMES), kind]);
  }
  let block = inos.length;
  for (const [ino, records] of entries) {
    putDirectory(ino, ino === 2 ? blocks[0]! : places[block++]!, records.slice(0, 24));
  }
}

describe.skipIf(!hasTools)("random trees", { timeout: MINUTES_MS }, () => {
  const { QUIRE_SEED = "" } = process.env;
  test("of 500 seeds leave everything outside as it was (QUIRE_SEED repeats one)", async () => {
    const seeds =
      QUIRE_SEED === "" ? Array.from({ length: 500 }, (_, seed) => seed) : [Number(QUIRE_SEED)];
    const before = scanOutside();
    let made = 0;
    for (const seed of seeds) {
      const random = new Random(seed);
      patch.reset();
      putRandomTree(random);
      await get(patch.bytes, { allowExternalSymlinks: random.chance(0.3) });
      if (existsSync(destination)) made += readdirSync(destination).length;
      expect(scanOutside(), `QUIRE_SEED=${seed}`).toBe(before);
      rmSync(destination, { recursive: true, force: true });
    }
    expect(made).toBeGreaterThan(seeds.length);
  });

  test("a file outside that changes is seen", () => {
    const before = scanOutside();
    writeFileSync(join(parent, "outside", "file"), "changed!");
    expect(scanOutside()).not.toBe(before);
  });
});
