/**
 * The calls that change something, on a volume and on a real directory: the same values, the same
 * errors to the letter, and the same tree in the end.
 */
import * as nodeFs from "node:fs";
import type { FileHandle } from "node:fs/promises";
import * as nodePromises from "node:fs/promises";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import {
  type FsApi,
  LONG_NAME,
  makeTwins,
  outcomeOf,
  sorted,
  type Twins,
} from "../support/twin-trees.ts";

const hasTools = requireTool("mke2fs") && requireTool("mkfifo") && requireTool("e2fsck");
const isRoot = requireRoot("owners and devices");
const canRun = hasTools && isRoot;
const scratch = scratchDirectory("writing");
let twins: Twins;

beforeAll(async () => {
  if (canRun) twins = await makeTwins(scratch, "writable");
});
afterAll(() => twins?.close());

const { constants } = nodeFs;
const wrong = (value: unknown): never => value as never;
const long = (length: number): string => "x".repeat(length);
/** A path of exactly `length` bytes that leads to "text". */
function longPath(length: number): string {
  const restBytes = length - "text".length;
  return `${"./".repeat(restBytes >> 1)}${restBytes % 2 === 1 ? "/" : ""}text`;
}

type Call = readonly [title: string, call: (fs: FsApi) => unknown];

/** Each is done on both sides in this order; what one makes the next ones find. */
const NAMES: readonly Call[] = [
  ["mkdir", (fs) => fs.mkdir("new")],
  ["mkdir again", (fs) => fs.mkdir("new")],
  ["mkdir with a mode", (fs) => fs.mkdir("new/private", 0o700)],
  ["mkdir with a slash", (fs) => fs.mkdir("new/slash/")],
  ["mkdir over a file", (fs) => fs.mkdir("text")],
  ["mkdir over a dangling link", (fs) => fs.mkdir("dangling")],
  ["mkdir below a file", (fs) => fs.mkdir("text/new")],
  ["mkdir below nothing", (fs) => fs.mkdir("nowhere/new")],
  ["mkdir of a name of 255 bytes", (fs) => fs.mkdir(`new/${long(255)}`)],
  ["mkdir of a name of 256 bytes", (fs) => fs.mkdir(`new/${long(256)}`)],
  ["mkdir of the root", (fs) => fs.mkdir(".")],
  ["mkdir of nothing", (fs) => fs.mkdir("")],
  ["mkdir recursive", (fs) => fs.mkdir("new/a/b/c", { recursive: true })],
  ["mkdir recursive again", (fs) => fs.mkdir("new/a/b/c", { recursive: true })],
  ["mkdir recursive below", (fs) => fs.mkdir("new/a/b/d/e", { recursive: true, mode: 0o750 })],
  ["mkdir recursive over a file", (fs) => fs.mkdir("text", { recursive: true })],
  ["mkdir recursive below a file", (fs) => fs.mkdir("text/a/b", { recursive: true })],
  ["mkdir recursive with slashes", (fs) => fs.mkdir("new/s//t/", { recursive: true })],
  ["symlink", (fs) => fs.symlink("../text", "new/link")],
  ["symlink again", (fs) => fs.symlink("../text", "new/link")],
  ["symlink to nothing", (fs) => fs.symlink("", "new/empty")],
  ["symlink of 59 bytes", (fs) => fs.symlink(long(59), "new/l59")],
  ["symlink of 60 bytes", (fs) => fs.symlink(long(60), "new/l60")],
  ["symlink of 4095 bytes", (fs) => fs.symlink(long(4095), "new/l4095")],
  ["symlink of 4096 bytes", (fs) => fs.symlink(long(4096), "new/l4096")],
  ["symlink with a slash", (fs) => fs.symlink("x", "new/s1/")],
  ["readlink", (fs) => fs.readlink("new/link")],
  ["readlink of 4095 bytes", (fs) => fs.readlink("new/l4095")],
  ["link", (fs) => fs.link("text", "new/hard")],
  ["link again", (fs) => fs.link("text", "new/hard")],
  ["link of a symlink", (fs) => fs.link("to-file", "new/hard-link")],
  ["link of a directory", (fs) => fs.link("new", "new/hard-dir")],
  ["link of nothing", (fs) => fs.link("nowhere", "new/x")],
  ["link with a slash", (fs) => fs.link("text", "new/x/")],
  ["stat of a link", async (fs) => (await fs.stat("text")).nlink],
  ["unlink of a directory", (fs) => fs.unlink("new")],
  ["unlink of nothing", (fs) => fs.unlink("new/nowhere")],
  ["unlink with a slash", (fs) => fs.unlink("text/")],
  ["unlink of a link with a slash", (fs) => fs.unlink("new/link/")],
  ["unlink below a file", (fs) => fs.unlink("text/x")],
  ["unlink of a long name", (fs) => fs.unlink(`new/${long(256)}`)],
  ["unlink", (fs) => fs.unlink("new/hard")],
  ["unlink of a symlink", (fs) => fs.unlink("new/l59")],
  ["unlink of a fifo", (fs) => fs.unlink("fifo")],
  ["rmdir of a file", (fs) => fs.rmdir("text")],
  ["rmdir of nothing", (fs) => fs.rmdir("new/nowhere")],
  ["rmdir of what is not empty", (fs) => fs.rmdir("new/a")],
  ["rmdir of a dot", (fs) => fs.rmdir("new/.")],
  ["rmdir of two dots", (fs) => fs.rmdir("new/a/..")],
  ["rmdir of a link", (fs) => fs.rmdir("to-dir")],
  ["rmdir", (fs) => fs.rmdir("new/private")],
  ["rmdir with a slash", (fs) => fs.rmdir("new/slash/")],
  ["rename", (fs) => fs.rename("second", "new/third")],
  ["rename over a file", (fs) => fs.rename("new/third", "empty")],
  [
    "rename of one name of a file to another",
    async (fs) => {
      await fs.link("run", "run2");
      await fs.rename("run", "run2");
      return [(await fs.stat("run")).nlink, (await fs.stat("run2")).nlink];
    },
  ],
  ["rename to itself", (fs) => fs.rename("run", "run")],
  ["rename of a directory", (fs) => fs.rename("new/a", "new/z")],
  ["rename of a directory elsewhere", (fs) => fs.rename("new/z/b", "plain/b")],
  ["rename of a directory over an empty one", (fs) => fs.rename("plain/b/c", "plain/b/d/e")],
  ["rename of a directory over a full one", (fs) => fs.rename("new/z", "plain/b")],
  ["rename of a directory over a file", (fs) => fs.rename("new/z", "text")],
  ["rename of a file over a directory", (fs) => fs.rename("text", "new/z")],
  ["rename into itself", (fs) => fs.rename("plain", "plain/b/inside")],
  ["rename over what it is in", (fs) => fs.rename("plain/b", "plain")],
  ["rename of a file over what it is far below", (fs) => fs.rename("plain/x/y/three", "plain")],
  ["rename of nothing", (fs) => fs.rename("nowhere", "new/x")],
  ["rename to nowhere", (fs) => fs.rename("text", "nowhere/x")],
  ["rename of dots", (fs) => fs.rename("new/.", "x")],
  ["rename of a file with a slash", (fs) => fs.rename("text/", "x")],
  ["rename of a file with a slash to a long name", (fs) => fs.rename("text/", long(256))],
  ["rename to a name with a slash", (fs) => fs.rename("text", "x/")],
  ["rename of a directory to a name with a slash", (fs) => fs.rename("new/z", "new/y/")],
  ["rename of a symlink", (fs) => fs.rename("new/l60", "new/l60b")],
  ["rename to a name of 256 bytes", (fs) => fs.rename("text", long(256))],
  ["mkdtemp", async (fs) => (await fs.mkdtemp("new/tmp-")).slice(0, -6)],
  ["mkdtemp nowhere", (fs) => fs.mkdtemp("nowhere/tmp-").catch((e) => e.message.slice(0, -8))],
];

const ATTRIBUTES: readonly Call[] = [
  ["chmod", async (fs) => [await fs.chmod("text", 0o4711), (await fs.stat("text")).mode]],
  ["chmod in octal", async (fs) => [await fs.chmod("text", "640"), (await fs.stat("text")).mode]],
  ["chmod of a directory", async (fs) => [await fs.chmod("a", 0o2755), (await fs.stat("a")).mode]],
  [
    "chmod through a link",
    async (fs) => [await fs.chmod("to-file", 0o600), (await fs.stat("text")).mode],
  ],
  [
    "chmod with higher bits",
    async (fs) => [await fs.chmod("text", 0o177644), (await fs.stat("text")).mode],
  ],
  ["chmod of nothing", (fs) => fs.chmod("nowhere", 0o600)],
  [
    "chown",
    async (fs) => {
      await fs.chmod("text", 0o6755);
      await fs.chown("text", 1000, 70_000);
      const { uid, gid, mode } = await fs.stat("text");
      return { uid, gid, mode };
    },
  ],
  [
    "chown of a group alone",
    async (fs) => {
      await fs.chown("text", -1, 5);
      const { uid, gid } = await fs.stat("text");
      return { uid, gid };
    },
  ],
  [
    "chown of a locking file",
    async (fs) => {
      await fs.chmod("text", 0o2644);
      await fs.chown("text", 0, 0);
      return (await fs.stat("text")).mode;
    },
  ],
  ["lchown", async (fs) => [await fs.lchown("to-file", 7, 8), (await fs.lstat("to-file")).uid]],
  [
    "utimes",
    async (fs) => {
      await fs.utimes("text", 1_000_000_000.123456, new Date("2031-02-03T04:05:06.789Z"));
      const { atimeMs, mtimeMs } = await fs.stat("text");
      return { atimeMs, mtimeMs };
    },
  ],
  [
    "utimes in text",
    async (fs) => {
      await fs.utimes("text", "12345.5", "99");
      const { atimeMs, mtimeMs } = await fs.stat("text");
      return { atimeMs, mtimeMs };
    },
  ],
  [
    "lutimes",
    async (fs) => {
      await fs.lutimes("to-file", 11, 22);
      return (await fs.lstat("to-file")).mtimeMs;
    },
  ],
  ["utimes of nothing", (fs) => fs.utimes("nowhere", 1, 1)],
  ["access", (fs) => fs.access("text", constants.W_OK)],
  ["access to run", (fs) => fs.access("text", constants.X_OK)],
];

const CONTENT: readonly Call[] = [
  ["writeFile", (fs) => fs.writeFile("w", "first")],
  ["readFile", (fs) => fs.readFile("w", "utf8")],
  [
    "writeFile shorter",
    async (fs) => [await fs.writeFile("w", "2"), await fs.readFile("w", "utf8")],
  ],
  [
    "writeFile of bytes",
    async (fs) => [await fs.writeFile("w", Buffer.from([1, 2, 3])), await fs.readFile("w")],
  ],
  [
    "writeFile in hex",
    async (fs) => [await fs.writeFile("w", "00ff10", "hex"), await fs.readFile("w")],
  ],
  [
    "writeFile with a mode",
    async (fs) => {
      await fs.writeFile("w0", "x", { mode: 0o604 });
      return (await fs.stat("w0")).mode;
    },
  ],
  ["writeFile wx", (fs) => fs.writeFile("w", "x", { flag: "wx" })],
  [
    "writeFile of pieces",
    async (fs) => {
      await fs.writeFile(
        "w",
        (function* () {
          yield "one ";
          yield "two";
        })(),
      );
      return fs.readFile("w", "utf8");
    },
  ],
  [
    "writeFile through a dangling link",
    async (fs) => {
      await fs.mkdir("nowhere");
      await fs.writeFile("dangling", "made");
      return fs.readFile("nowhere/at all", "utf8");
    },
  ],
  ["writeFile to a directory", (fs) => fs.writeFile("a", "x")],
  ["writeFile below a file", (fs) => fs.writeFile("w/x", "x")],
  ["writeFile with a slash", (fs) => fs.writeFile("new-file/", "x")],
  ["writeFile of a long name", (fs) => fs.writeFile(long(256), "x")],
  ["writeFile of nothing", (fs) => fs.writeFile("w", wrong(1))],
  [
    "appendFile",
    async (fs) => [await fs.appendFile("w", " three"), await fs.readFile("w", "utf8")],
  ],
  [
    "appendFile to a new one",
    async (fs) => [await fs.appendFile("w2", "x"), await fs.readFile("w2", "utf8")],
  ],
  ["truncate", async (fs) => [await fs.truncate("w", 3), await fs.readFile("w", "utf8")]],
  ["truncate to more", async (fs) => [await fs.truncate("w", 9000), await fs.readFile("w")]],
  ["truncate of a directory", (fs) => fs.truncate("a", 3)],
  ["truncate of nothing", (fs) => fs.truncate("none", 3)],
  [
    "truncate to less than nothing",
    async (fs) => [await fs.truncate("w", -5), (await fs.stat("w")).size],
  ],
  ["copyFile", async (fs) => [await fs.copyFile("large", "copy"), await fs.readFile("copy")]],
  [
    "copyFile with a mode",
    async (fs) => [await fs.copyFile("run", "run3"), (await fs.stat("run3")).mode],
  ],
  [
    "copyFile over",
    async (fs) => [await fs.copyFile("text", "copy"), await fs.readFile("copy", "utf8")],
  ],
  ["copyFile not over", (fs) => fs.copyFile("text", "copy", constants.COPYFILE_EXCL)],
  ["copyFile to itself", (fs) => fs.copyFile("text", "text")],
  ["copyFile of a directory", (fs) => fs.copyFile("a", "copied")],
  ["copyFile to a directory", (fs) => fs.copyFile("text", "a")],
  ["copyFile of nothing", (fs) => fs.copyFile("none", "copied")],
  [
    "cp of a file",
    async (fs) => [await fs.cp("text", "cp/deep/text"), await fs.readFile("cp/deep/text", "utf8")],
  ],
  [
    "cp of a tree",
    async (fs) => {
      await fs.cp("plain", "plain2", { recursive: true, verbatimSymlinks: true });
      return sorted(await fs.readdir("plain2", { recursive: true }));
    },
  ],
  ["cp over a tree", (fs) => fs.cp("plain", "plain2", { recursive: true, verbatimSymlinks: true })],
  ["cp not over", (fs) => fs.cp("text", "copy", { force: false, errorOnExist: true })],
  ["cp of a tree without recursive", (fs) => fs.cp("plain", "plain3")],
  ["cp into itself", (fs) => fs.cp("plain", "plain/x/deep", { recursive: true })],
  ["cp of a directory over a file", (fs) => fs.cp("plain", "text", { recursive: true })],
  ["cp of a file over a directory", (fs) => fs.cp("text", "plain")],
  [
    "cp filtered",
    async (fs) => {
      await fs.cp("plain", "plain4", {
        recursive: true,
        filter: (source) => !source.endsWith("two") && !source.endsWith("link"),
      });
      return sorted(await fs.readdir("plain4", { recursive: true }));
    },
  ],
  ["rm of a file", (fs) => fs.rm("plain2/one")],
  ["rm of nothing", (fs) => fs.rm("plain2/one")],
  ["rm of nothing by force", (fs) => fs.rm("plain2/one", { force: true })],
  ["rm of a directory", (fs) => fs.rm("plain2")],
  [
    "rm of a tree",
    async (fs) => [
      await fs.rm("plain2", { recursive: true }),
      await outcomeOf(() => fs.stat("plain2")),
    ],
  ],
  [
    "rm of many",
    async (fs) => [
      await fs.rm("many", { recursive: true }),
      await outcomeOf(() => fs.stat("many")),
    ],
  ],
];

const HANDLES: readonly (readonly [
  string,
  string | number,
  (handle: FileHandle) => readonly (() => unknown)[],
])[] = [
  [
    "write moves the position",
    "w+",
    (h) => [
      () => h.write("abc"),
      () => h.write("def"),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
      () => h.write("g"),
      () => h.readFile(),
    ],
  ],
  [
    "a position does not move it",
    "w+",
    (h) => [
      () => h.write("abcdef"),
      () => h.write("XY", 2),
      () => h.write("g"),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
    ],
  ],
  [
    "null is no position",
    "w+",
    (h) => [
      () => h.write("abc", null),
      () => h.write(Buffer.from("def"), 0, 3, null),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
    ],
  ],
  [
    "appending ignores positions",
    "a+",
    (h) => [
      () => h.write("abc"),
      () => h.write("X", 0),
      () => h.write("d"),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
    ],
  ],
  [
    "a read behind an append",
    "a+",
    (h) => [
      () => h.write("abc"),
      () => h.read(Buffer.alloc(9), 0, 9),
      () => h.read(Buffer.alloc(9), 0, 2, 0),
    ],
  ],
  [
    "options of write",
    "w+",
    (h) => [
      () => h.write(Buffer.from("abcdef"), wrong({ offset: 2, length: 3, position: 1 })),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
    ],
  ],
  [
    "offsets out of range",
    "w+",
    (h) => [
      () => h.write(Buffer.from("abc"), 4),
      () => h.write(Buffer.from("abc"), 1, 3),
      () => h.write(Buffer.from("abc"), 0, -1),
      () => h.write(Buffer.from("abc"), 1.5),
    ],
  ],
  [
    "wrong data",
    "w+",
    (h) => [
      () => h.write(wrong(1)),
      () => h.write(wrong({})),
      () => h.writeFile(wrong(3)),
      () => h.writev(wrong("x")),
    ],
  ],
  [
    "writev",
    "w+",
    (h) => [
      () => h.writev([Buffer.from("ab"), Buffer.from("cd")]),
      () => h.writev([Buffer.from("X")], 1),
      () => h.writev([]),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
    ],
  ],
  [
    "a hole",
    "w+",
    (h) => [
      () => h.write("x", 9000),
      () => h.stat().then(({ size }) => size),
      () => h.read(Buffer.alloc(9), 0, 9, 8995),
    ],
  ],
  [
    "truncate",
    "w+",
    (h) => [
      () => h.write("abcdef"),
      () => h.truncate(3),
      () => h.write("g"),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
      () => h.truncate(),
      () => h.stat().then(({ size }) => size),
    ],
  ],
  [
    "truncate wrongly",
    "w+",
    (h) => [() => h.truncate(1.5), () => h.truncate(wrong("x")), () => h.truncate(-3)],
  ],
  [
    "opened for reading",
    "r",
    (h) => [
      () => h.write("x"),
      () => h.truncate(0),
      () => h.writeFile("x"),
      () => h.chmod(0o640),
      () => h.utimes(1, 2),
      () => h.sync(),
      () => h.datasync(),
    ],
  ],
  [
    "opened for writing",
    "w",
    (h) => [
      () => h.read(Buffer.alloc(3)),
      () => h.readFile(),
      () => h.write("x"),
      () => h.chown(1, 2),
      () => h.stat().then(({ uid }) => uid),
    ],
  ],
  [
    "writeFile begins at the position",
    "w+",
    (h) => [() => h.write("abc"), () => h.writeFile("XYZ"), () => h.read(Buffer.alloc(9), 0, 9, 0)],
  ],
  [
    "appendFile",
    "w+",
    (h) => [
      () => h.write("abc"),
      () => h.appendFile("def"),
      () => h.read(Buffer.alloc(9), 0, 9, 0),
    ],
  ],
  ["O_SYNC", "as+", (h) => [() => h.write("abc"), () => h.read(Buffer.alloc(9), 0, 9, 0)]],
  [
    "O_DSYNC",
    constants.O_RDWR | constants.O_CREAT | constants.O_DSYNC,
    (h) => [() => h.write("abc"), () => h.read(Buffer.alloc(9), 0, 9, 0)],
  ],
];

const FLAGS: readonly (string | number)[] = [
  "r",
  "r+",
  "rs+",
  "w",
  "wx",
  "w+",
  "wx+",
  "a",
  "ax",
  "a+",
  "ax+",
  "as",
  constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
  constants.O_RDONLY | constants.O_TRUNC,
  constants.O_WRONLY | constants.O_NOFOLLOW,
  constants.O_RDWR | constants.O_DIRECTORY,
  constants.O_RDONLY | constants.O_DIRECTORY,
  constants.O_RDONLY | constants.O_CREAT | constants.O_DIRECTORY,
];

const OPEN_PATHS = [
  "there",
  "absent",
  "absent/",
  "there/",
  "a",
  "a/",
  "to-file",
  "dangling2",
  "self",
  "there/x",
  "nope/x",
  "",
  ".",
  LONG_NAME,
  long(256),
];

describe.skipIf(!canRun)("a volume that is written, beside a directory", () => {
  describe("names", () => {
    test.each(NAMES)("%s", async (_title, call) => {
      await twins.compare(call);
    });
  });

  describe("attributes", () => {
    test.each(ATTRIBUTES)("%s", async (_title, call) => {
      await twins.compare(call);
    });
  });

  describe("content", () => {
    test.each(CONTENT)("%s", async (_title, call) => {
      await twins.compare(call);
    });
  });

  describe("handles", () => {
    test.each(HANDLES)("%s", async (_title, flags, calls) => {
      await twins.compare(async (fs) => {
        await fs.writeFile("on", "0123456789");
        const handle = await fs.open("on", flags);
        const outcomes: unknown[] = [];
        try {
          for (const call of calls(handle)) outcomes.push(await outcomeOf(call));
        } finally {
          await handle.close();
        }
        return [outcomes, await fs.readFile("on")];
      });
    });

    test.each(FLAGS)("open with %s", async (flags) => {
      for (const path of OPEN_PATHS) {
        await twins.compare(async (fs) => {
          await fs.rm("absent", { force: true });
          await fs.rm("gone", { force: true, recursive: true });
          await fs.rm("dangling2", { force: true });
          await fs.symlink("gone", "dangling2");
          await fs.writeFile("there", "content");
          const opened = await outcomeOf(async () => {
            const handle = await fs.open(path, flags, 0o666);
            await handle.close();
          });
          const left = await outcomeOf(() => fs.readFile("there", "utf8"));
          const made = await outcomeOf(async () => (await fs.stat("absent")).mode);
          const behind = await outcomeOf(() => fs.readFile("gone", "utf8"));
          return [path, opened, left, made, behind];
        });
      }
    });

    test("a file lives on while it is open, though its name has gone", async () => {
      await twins.compare(async (fs) => {
        const handle = await fs.open("on", "w+");
        await handle.write("still here");
        await fs.unlink("on");
        const { nlink } = await handle.stat();
        const read = await handle.read(Buffer.alloc(20), 0, 20, 0);
        await handle.write("!", 10);
        await handle.close();
        return [nlink, read, await outcomeOf(() => fs.stat("on"))];
      });
    });

    test("streams", async () => {
      await twins.compare(async (fs) => {
        await fs.writeFile("stream", "0123456789");
        const out = await fs.open("stream", "r+");
        const stream = out.createWriteStream({ start: 3, highWaterMark: 2 });
        await pipeline(async function* () {
          yield "abc";
          yield Buffer.from("def");
        }, stream as Writable);
        const read = await fs.open("stream");
        const parts: Buffer[] = [];
        for await (const part of read.createReadStream()) parts.push(part as Buffer);
        return [Buffer.concat(parts), stream.bytesWritten];
      });
    });
  });

  test("paths of 4,095 and 4,096 bytes", async () => {
    for (const length of [4094, 4095, 4096, 4097]) {
      await twins.compare((fs) => fs.chmod(longPath(length), 0o644));
      await twins.compare((fs) => outcomeOf(() => fs.rename(longPath(length), "text")));
    }
  });

  test("the trees are equal in the end, and the image is whole", async () => {
    const listed = async (fs: FsApi): Promise<string[]> => {
      const names: string[] = []; // Node's own recursion would follow links out of the tree.
      for (const todo = ["."]; todo.length > 0; ) {
        const dir = todo.pop()!;
        for (const entry of await fs.readdir(dir, { withFileTypes: true })) {
          const path = dir === "." ? entry.name : `${dir}/${entry.name}`;
          if (!path.includes("\ufffd")) names.push(path);
          if (entry.isDirectory()) todo.push(path);
        }
      }
      const kept = names.filter((name) => !name.includes("tmp-") && !name.startsWith("lost+found"));
      const lines = kept.sort().map(async (name) => {
        const { mode, uid, gid, nlink, size } = await fs.lstat(name);
        const isDirectory = mode >> 12 === 4; // Their sizes and links are each file system's own.
        return [name, mode, uid, gid, ...(isDirectory ? [] : [size, nlink])].join(" ");
      });
      return Promise.all(lines);
    };
    const wanted = new Set(await listed(nodePromises));
    const got = new Set(await listed(twins.ours));
    expect([...got].filter((line) => !wanted.has(line))).toEqual([]);
    expect([...wanted].filter((line) => !got.has(line))).toEqual([]);
    await twins.volume.sync();
    const copy = join(scratch, "copy.img");
    nodeFs.copyFileSync(twins.image, copy, constants.COPYFILE_FICLONE);
    runTool("e2fsck", ["-fy", "-E", "journal_only", copy]);
    expect(runTool("e2fsck", ["-fn", copy])).toContain("Pass 5");
  });
});
