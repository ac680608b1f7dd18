/**
 * Options, data and events as Node takes and gives them, on a volume and on a real directory.
 */
import { once } from "node:events";
import { constants } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import { realClock } from "../../src/lib/clock.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { type FsApi, makeTwins, outcomeOf, sorted, type Twins } from "../support/twin-trees.ts";

const canRun = requireRoot("owners and devices") && requireTool("mke2fs") && requireTool("mkfifo");
const scratch = scratchDirectory("options");
let twins: Twins;

beforeAll(async () => {
  if (canRun) twins = await makeTwins(scratch, "writable");
});
afterAll(() => twins?.close());

const wrong = (value: unknown): never => value as never;
const NOT_FLAGS = [1, "true", null, {}];
const NOT_OPTIONS = [1, "x", null, true, [], () => {}];

async function firstEvent(fs: FsApi, options: never): Promise<unknown> {
  for await (const event of fs.watch(".", options)) return event;
  return undefined;
}

type Call = readonly [title: string, call: (fs: FsApi) => unknown];

function optionCalls(): Call[] {
  const calls: Call[] = [];
  for (const value of NOT_FLAGS) {
    const shown = JSON.stringify(value);
    for (const name of ["recursive", "force", "maxRetries", "retryDelay"]) {
      const options = wrong({ [name]: value });
      if (name.startsWith("m") && value === 1) continue;
      calls.push([`rm ${name} ${shown}`, (fs) => fs.rm("absent", options)]);
      if (name !== "force") {
        calls.push([`rmdir ${name} ${shown}`, (fs) => fs.rmdir("absent", options)]);
      }
    }
    for (const name of ["force", "dereference", "recursive", "errorOnExist", "filter"]) {
      const options = wrong({ [name]: value });
      calls.push([`cp ${name} ${shown}`, (fs) => fs.cp("text", "absent", options)]);
    }
    const recursive = wrong({ recursive: value });
    calls.push([`mkdir recursive ${shown}`, (fs) => fs.mkdir("absent/in", recursive)]);
    calls.push([`watch recursive ${shown}`, (fs) => firstEvent(fs, recursive)]);
    const flush = wrong({ flush: value === null ? 2 : value });
    calls.push([`writeFile flush ${shown}`, (fs) => fs.writeFile("text", "lost", flush)]);
  }
  for (const [at, value] of NOT_OPTIONS.entries()) {
    calls.push([`rm with options ${at}`, (fs) => fs.rm("absent", wrong(value))]);
    calls.push([`rmdir with options ${at}`, (fs) => fs.rmdir("absent", wrong(value))]);
    calls.push([`cp with options ${at}`, (fs) => fs.cp("text", "absent", wrong(value))]);
    calls.push([`watch with options ${at}`, (fs) => firstEvent(fs, wrong(value))]);
  }
  const pair = { dereference: true, verbatimSymlinks: true };
  calls.push(["cp with a pair that excludes itself", (fs) => fs.cp("text", "absent", pair)]);
  for (const mode of [-1, 8, 1.5, Number.NaN, "1", {}, 1n]) {
    const shown = typeof mode === "object" ? "{}" : String(mode);
    calls.push([`copyFile mode ${shown}`, (fs) => fs.copyFile("text", "copied", wrong(mode))]);
  }
  for (const type of ["file", "dir", "junction", "bogus", 5]) {
    calls.push([`symlink type ${type}`, (fs) => fs.symlink("x", `link-${type}`, wrong(type))]);
  }
  return calls;
}

/** What `writeFile` is given, as a whole or in pieces. */
const DATA: readonly unknown[] = [
  [1],
  ["a", 1],
  [null],
  [[65, 66]],
  [new String("text")],
  new Set(["q", "r"]),
  new DataView(new ArrayBuffer(2)),
  5,
  null,
  {},
];

const TIMES = ["", "12", "12.5", "12abc", "abc", "-1", new Date(Number.NaN), "Infinity"];

describe.skipIf(!canRun)("options", () => {
  test.each(optionCalls())("%s", async (_title, call) => {
    await twins.compare(async (fs) => {
      const done = await outcomeOf(() => call(fs));
      return [done, await fs.readFile("text", "utf8")];
    });
  });

  test.each([...DATA.entries()])("data %i", async (_at, data) => {
    await twins.compare(async (fs) => {
      await fs.rm("data", { force: true });
      const written = await outcomeOf(() => fs.writeFile("data", wrong(data)));
      return [written, await outcomeOf(() => fs.readFile("data"))];
    });
  });

  test.each([...TIMES.entries()])("time %i", async (_at, time) => {
    await twins.compare(async (fs) => {
      await fs.utimes("text", 5, 5);
      const set = await outcomeOf(() => fs.utimes("text", time, time));
      const handle = await fs.open("text", "r+");
      const setOpen = await outcomeOf(() => handle.utimes(wrong(time), wrong(time)));
      await handle.close();
      const { mtimeMs } = await fs.stat("text");
      return [set, setOpen, mtimeMs];
    });
  });

  test("text in no encoding leaves the file as it is", async () => {
    await twins.compare(async (fs) => {
      const written = await outcomeOf(() => fs.writeFile("text", "lost", wrong("buffer")));
      return [written, await fs.readFile("text")];
    });
  });

  test("an empty encoding or flag is none", async () => {
    const none = wrong({ encoding: "", flag: "" });
    await twins.compare(async (fs) => [
      await fs.readFile("text", none),
      await fs.readdir("plain", none).then(sorted),
      await fs.writeFile("text", "new", none),
      await fs.appendFile("text", "er", none),
      await fs.readFile("text"),
    ]);
  });

  test("mkdtemp names the directory in the encoding asked for, and by bytes", async () => {
    await twins.compare(async (fs) => {
      const kinds: unknown[] = [];
      for (const encoding of ["utf8", "buffer", "hex"]) {
        const name: unknown = await fs.mkdtemp("t-", wrong(encoding));
        kinds.push(typeof name, (name as string).length);
      }
      const odd: unknown = await fs.mkdtemp(wrong(Buffer.from([0x74, 0xff])), wrong("buffer"));
      return [...kinds, (odd as Buffer).subarray(0, 2)];
    });
  });

  test("truncate to null is an error", async () => {
    await twins.compare(async (fs) => [
      await outcomeOf(() => fs.truncate("text", wrong(null))),
      (await fs.readFile("text")).length > 0,
    ]);
  });

  test("rm of a link with a slash leaves alone what it leads to", async () => {
    const volume = twins.ours;
    await volume.mkdir("kept/in", { recursive: true });
    await volume.symlink("kept", "to-kept");
    const gone = volume.rm("to-kept/", { recursive: true });
    await expect(gone).rejects.toMatchObject({ code: "ENOTDIR", syscall: "rmdir" });
    expect(await volume.readdir("kept")).toEqual(["in"]);
  });

  test.each([".", "/", "kept2/."])("rm of %s removes nothing", async (path) => {
    const volume = twins.ours;
    await volume.mkdir("kept2/in", { recursive: true });
    const gone = volume.rm(path, { recursive: true, force: true });
    await expect(gone).rejects.toMatchObject({ syscall: "rmdir" });
    expect(await volume.readdir("kept2")).toEqual(["in"]);
  });

  test("rm is done where others take away the same tree", async () => {
    const { ours } = twins;
    await ours.mkdir("race/a/b/c", { recursive: true });
    for (let n = 0; n < 40; n++) await ours.writeFile(`race/a/${n}`, "x");
    const calls = Array.from({ length: 8 }, () =>
      ours.rm("race", { recursive: true, force: true }),
    );
    await Promise.all(calls);
    expect((await outcomeOf(() => ours.stat("race"))) as object).toMatchObject({
      error: { code: "ENOENT" },
    });
  });

  test("rmdir with recursive takes the tree", async () => {
    await twins.compare(async (fs) => {
      await fs.mkdir("deep/er", { recursive: true });
      return [
        await fs.rmdir("deep", { recursive: true }),
        await outcomeOf(() => fs.access("deep")),
        await outcomeOf(() => fs.rmdir("deep", { recursive: true })),
        await outcomeOf(() => fs.rmdir("text", { recursive: true })),
      ];
    });
  });

  test("mkdir makes what is missing below a name that goes up, and no links", async () => {
    await twins.compare(async (fs) => [
      await outcomeOf(() => fs.mkdir("missing/..", { recursive: true })),
      await outcomeOf(() => fs.mkdir("missing/../new/sub", { recursive: true })),
      await outcomeOf(() => fs.mkdir("dangling", { recursive: true })),
      await outcomeOf(() => fs.mkdir("dangling/sub", { recursive: true })),
      await fs.readdir("missing"),
    ]);
  });

  test("O_TMPFILE needs to be written, and makes no name", async () => {
    const [tmpfile, creat] = [0o20200000, 0o100];
    await twins.compare(async (fs) => [
      await outcomeOf(() => fs.open(".", tmpfile)),
      await outcomeOf(() => fs.open("absent", tmpfile)),
      await outcomeOf(() => fs.open(".", tmpfile | 2 | creat)),
      await outcomeOf(async () => (await fs.open(".", tmpfile | 2)).close()),
    ]);
  });

  test("watch with recursive tells of what is below, by its path", async () => {
    await twins.compare(async (fs) => {
      await fs.mkdir("watched/sub", { recursive: true });
      const stop = new AbortController();
      const seen: unknown[] = [];
      const watching = (async () => {
        for await (const event of fs.watch("watched", { recursive: true, signal: stop.signal })) {
          seen.push(event.filename);
          stop.abort();
        }
      })().catch((thrown: Error) => thrown.name);
      for (let n = 0; seen.length === 0 && n < 100; n++) {
        await fs.writeFile("watched/sub/name", String(n));
        await fs.stat("watched");
        await realClock.turn();
      }
      return [await watching, seen[0]];
    });
  });
});

describe.skipIf(!canRun)("handles and directories", () => {
  test("a handle emits close, to those who listen", async () => {
    await twins.compare(async (fs) => {
      const handle = await fs.open("text");
      const closed = once(handle as never, "close");
      await handle.close();
      return closed;
    });
  });

  test("calls work without their object", async () => {
    const { readFile, stat, writeFile, rm } = twins.ours;
    await writeFile("free", "call");
    expect(await readFile("free", "utf8")).toBe("call");
    expect((await stat("free")).size).toBe(4);
    await rm("free");
  });

  test("constants are Node's", () => {
    const known = Object.entries(constants).filter(([name]) => !name.startsWith("EXTENSIONLESS"));
    const { O_TMPFILE, ...ours } = twins.ours.constants as Record<string, number>;
    expect(ours).toEqual(Object.fromEntries(known));
    expect(O_TMPFILE).toBe(0o20200000);
  });

  test("a directory is read and closed with callbacks too", async () => {
    await twins.compare(async (fs) => {
      const dir = await fs.opendir(Buffer.from("plain/x/y"));
      const read = await new Promise((resolve) => {
        dir.read((error, entry) => resolve([error, entry?.isFile()]));
      });
      const closed = await new Promise((resolve) => {
        dir.close((error) => resolve(error === undefined || error === null));
      });
      return [dir.path, read, closed, await outcomeOf(() => dir.close())];
    });
  });

  test("streams tell what they are over, and close", async () => {
    await twins.compare(async (fs) => {
      const handle = await fs.open("text");
      const stream = handle.createReadStream({ start: 1, autoClose: true });
      const facts = { start: 1, pending: false, autoClose: true };
      expect(stream).toMatchObject(facts);
      const closed = once(stream, "close");
      stream.close();
      await closed;
      return [handle.fd, stream.pending];
    });
  });

  test("a signal ends a write stream", async () => {
    await twins.compare(async (fs) => {
      const handle = await fs.open("cut off", "w");
      const signal = AbortSignal.abort();
      const stream = handle.createWriteStream(wrong({ signal }));
      const [error] = await once(stream, "error");
      return [(error as Error).name, await fs.readFile("cut off", "utf8")];
    });
  });

  test("streams over a closed handle are refused at once", async () => {
    const handle = await twins.ours.open("text");
    await handle.close();
    for (const make of ["createReadStream", "createWriteStream", "readLines"] as const) {
      expect(() => handle[make]()).toThrow("file closed");
    }
  });
});

const CAPABILITY = Buffer.from("0100000202000000000000000000000000000000", "hex");

/** What takes capabilities off a file. */
const LOSING: readonly Call[] = [
  ["a write", (fs) => fs.writeFile("f", "y", { flag: "r+" })],
  ["an append", (fs) => fs.appendFile("f", "y")],
  ["cutting it", (fs) => fs.truncate("f", 1)],
  ["opening it empty", async (fs) => (await fs.open("f", "w")).close()],
  ["another owner", (fs) => fs.chown("f", 5, 5)],
];

test.skipIf(!canRun).each(LOSING)("capabilities are lost by %s", async (_title, call) => {
  const image = join(scratch, "capabilities.img");
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", image, "16M"]);
  const volume = await openImage(image, { writable: true });
  const { fs } = volume;
  await fs.writeFile("f", "xx");
  await fs.setXattr("f", "security.capability", CAPABILITY);
  await fs.setXattr("f", "user.kept", CAPABILITY);
  await fs.readFile("f");
  await fs.chmod("f", 0o755);
  expect([...(await fs.xattrs("f")).keys()].sort()).toEqual(["security.capability", "user.kept"]);
  await call(fs as unknown as FsApi);
  expect([...(await fs.xattrs("f")).keys()]).toEqual(["user.kept"]);
  await volume.close();
  runTool("e2fsck", ["-fn", image]);
});

test.skipIf(!canRun)(
  "capabilities given while a handle is open are lost by its next write",
  async () => {
    const image = join(scratch, "open.img");
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", image, "16M"]);
    const volume = await openImage(image, { writable: true });
    const { fs } = volume;
    await using handle = await fs.open("f", "w+");
    await handle.write("one");
    await fs.setXattr("f", "security.capability", CAPABILITY);
    expect(handle.writeSync("two")).toBe(3);
    expect([...(await fs.xattrs("f")).keys()]).toEqual([]);
    await handle.close();
    await volume.close();
  },
);

test.skipIf(!canRun)(
  "reading a directory or a link brings its access time up to date",
  async () => {
    const image = join(scratch, "atime.img");
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", image, "16M"]);
    const volume = await openImage(image, { writable: true });
    const { fs } = volume;
    await fs.mkdir("d");
    await fs.symlink("d", "l");
    await fs.writeFile("f", "x");
    const before = [fs.utimes("d", 5, 9), fs.lutimes("l", 5, 9), fs.utimes("f", 5, 9)];
    await Promise.all(before);
    await (await fs.open("f", fs.constants["O_NOATIME"]!)).readFile();
    await fs.readdir("d");
    await fs.readlink("l");
    const accessed = async (path: string): Promise<boolean> =>
      (await fs.lstat(path)).atimeMs > 5000;
    expect(await Promise.all(["d", "l", "f"].map(accessed))).toEqual([true, true, false]);
    await volume.close();
  },
);
