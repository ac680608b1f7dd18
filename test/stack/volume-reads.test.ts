/**
 * What a volume promises to many callers at once: requests are shared, an abort is one caller's own
 * affair, errors say what was behind them, and calls that must not wait never do.
 */
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { EAGAIN, type FileHandle } from "../../src/front/file-handle.ts";
import { openVolume, type Volume } from "../../src/front/volume.ts";
import { FsError } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("debugfs");
const scratch = scratchDirectory("volume");
const content = new Random(3).bytes(2 * MIB);
const images = new Map<string, Uint8Array>();

beforeAll(() => {
  if (!hasTools) return;
  const source = join(scratch, "source");
  mkdirSync(join(source, "dir"), { recursive: true });
  writeFileSync(join(source, "dir/file"), content);
  const sparse = openSync(join(source, "sparse"), "w");
  // Every other block, so that the extents of the file need a block of their own.
  for (let n = 0; n < 40; n++) writeSync(sparse, "block", n * 8192);
  ftruncateSync(sparse, 40 * 8192);
  closeSync(sparse);
  for (const type of ["ext2", "ext4"]) {
    const image = join(scratch, `${type}.img`);
    runTool("mke2fs", ["-q", "-F", "-t", type, "-b", "4096", "-d", source, image, "16M"]);
    images.set(type, readFileSync(image));
  }
});

/** A store over bytes that counts its reads, holds them back, and fails where it is told. */
class TestStore extends MemoryStore {
  reads = 0;
  gate: Promise<void> | undefined;
  fails: ((offsetBytes: number) => Error | undefined) | undefined;

  override async read(...args: Parameters<Store["read"]>): Promise<void> {
    this.reads++;
    await this.gate;
    const error = this.fails?.(args[0]);
    if (error !== undefined) throw error;
    await super.read(...args);
  }
}

let store: TestStore;
let volume: Volume;

async function open(type: string, change?: (bytes: Uint8Array) => void): Promise<void> {
  const bytes = images.get(type)!.slice();
  change?.(bytes);
  store = new TestStore(bytes, { canWrite: false });
  volume = await openVolume(store, { cache: "8MiB" });
}

/** Where block `number` of the file that debugfs knows as `path` lies; "ind" and "idx" too. */
function blockOf(type: string, path: string, label: string): number {
  const text = runTool("debugfs", ["-R", `stat ${path}`, join(scratch, `${type}.img`)]);
  const match = new RegExp(`\\(${label}\\):(\\d+)`).exec(text);
  if (match === null) throw new Error(`no ${label} in ${text}`);
  return Number(match[1]);
}

describe.skipIf(!hasTools)("many readers", () => {
  beforeEach(() => open("ext4"));

  test("of one cold range cost one request", async () => {
    const handle = await volume.fs.open("/dir/file");
    const before = store.reads;
    const reads = await Promise.all(
      Array.from({ length: 50 }, () => handle.read(Buffer.alloc(4096), 0, 4096, 8192)),
    );
    expect(store.reads - before).toBe(1);
    for (const { buffer } of reads) {
      expect(Buffer.compare(buffer as Buffer, content.subarray(8192, 12288))).toBe(0);
    }
    await volume.close();
  });

  test("of one cold path look each thing up once", async () => {
    const before = store.reads;
    await volume.fs.stat("/dir/file");
    const alone = store.reads - before;
    await volume.close();
    await open("ext4");
    const again = store.reads;
    await Promise.all(Array.from({ length: 50 }, () => volume.fs.stat("/dir/file")));
    expect(store.reads - again).toBe(alone);
    await volume.close();
  });

  test("an abort ends one wait, with its own reason, and disturbs nobody", async () => {
    const handle = await volume.fs.open("/dir/file");
    let release = (): void => {};
    store.gate = new Promise((resolve) => {
      release = resolve;
    });
    const reason = { why: "no longer wanted" };
    const aborter = new AbortController();
    const read = (signal?: AbortSignal): ReturnType<FileHandle["read"]> =>
      handle.read({ buffer: Buffer.alloc(4096), position: 0, ...(signal ? { signal } : {}) });
    const stays = read();
    const leaves = read(aborter.signal);
    const file = volume.fs.readFile("/dir/file", { signal: aborter.signal });
    aborter.abort(reason);
    for (const task of [leaves, file]) {
      expect(
        await task.then(
          () => "done",
          (thrown: unknown) => thrown,
        ),
      ).toBe(reason);
    }
    release();
    const { bytesRead } = await stays;
    expect(bytesRead).toBe(4096);
    expect(volume.fs.openHandles).toBe(1); // That of `readFile` was closed.
    await volume.close();
  });

  test("a signal that is aborted already ends each call before it begins", async () => {
    const reason = new Error("over");
    const signal = AbortSignal.abort(reason);
    const before = store.reads;
    const { fs } = volume;
    const calls = [
      fs.access("/dir", 0, { signal }),
      fs.stat("/dir", { signal }),
      fs.lstat("/dir", { signal }),
      fs.readdir("/dir", { signal }),
      fs.opendir("/dir", { signal }),
      fs.readlink("/dir", { signal }),
      fs.realpath("/dir", { signal }),
      fs.statfs("/dir", { signal }),
      fs.open("/dir/file", "r", null, { signal }),
      fs.readFile("/dir/file", { signal }),
      fs.xattrs("/dir", { signal }),
      fs.inode("/dir", { signal }),
    ];
    for (const call of calls) {
      expect(
        await call.then(
          () => "done",
          (thrown: unknown) => thrown,
        ),
      ).toBe(reason);
    }
    expect(store.reads).toBe(before);
    await volume.close();
  });

  test("reads without a position share a cold file out among them", async () => {
    const handle = await volume.fs.open("/dir/file");
    const size = 10_000;
    const reads = await Promise.all(
      Array.from({ length: 40 }, () => handle.read(Buffer.alloc(size))),
    );
    reads.forEach(({ buffer }, at) => {
      const wanted = content.subarray(at * size, (at + 1) * size);
      expect([at, Buffer.compare(buffer as Buffer, wanted)]).toEqual([at, 0]);
    });
    expect((await handle.readFile()).length).toBe(content.length - 40 * size);
    await volume.close();
  });

  test("closing waits for lookups under way, to their last step", async () => {
    let release = (): void => {};
    store.gate = new Promise((resolve) => {
      release = resolve;
    });
    const stat = volume.fs.stat("/dir/file");
    const closing = volume.close();
    release();
    expect((await stat).size).toBe(content.length);
    await closing;
  });

  test("closing waits for reads under way, and refuses what comes after", async () => {
    const handle = await volume.fs.open("/sparse");
    let release = (): void => {};
    store.gate = new Promise((resolve) => {
      release = resolve;
    });
    const read = handle.read(Buffer.alloc(10), 0, 10, 0);
    const stat = volume.fs.stat("/dir/file");
    const closing = volume.close();
    await expect(volume.fs.stat("/dir")).rejects.toThrow(
      "EBADF: bad file descriptor, stat '/dir': the volume is closed",
    );
    release();
    expect((await read).bytesRead).toBe(10);
    expect((await stat).size).toBe(content.length);
    await closing;
    await volume.close();
    expect(handle.fd).toBe(-1);
    await expect(handle.read()).rejects.toThrow("file closed");
  });
});

describe.skipIf(!hasTools)("calls that never wait", () => {
  beforeEach(() => open("ext4"));

  test("say EAGAIN while a thing is cold, and answer once it is cached", async () => {
    const { fs } = volume;
    const calls: readonly (() => unknown)[] = [
      () => fs.statSync("/dir/file"),
      () => fs.lstatSync("/dir/file"),
      () => fs.existsSync("/dir/file"),
      () => fs.realpathSync("/dir/file"),
      () => fs.openSync("/dir/file"),
      () => fs.readdirSync("/dir"),
      () => fs.readFileSync("/dir/file"),
    ];
    expect(calls[0]!()).toBe(EAGAIN);
    await fs.readdir("/dir");
    expect(fs.readFileSync("/dir/file")).toBe(EAGAIN);
    await fs.readFile("/dir/file");
    const before = store.reads;
    for (const call of calls) expect(call()).not.toBe(EAGAIN);
    expect(Buffer.compare(content, fs.readFileSync("/dir/file") as Buffer)).toBe(0);
    expect(fs.readdirSync("/dir")).toEqual(["file"]);
    expect(fs.realpathSync("dir/../dir/file")).toBe("/dir/file");
    expect(fs.existsSync("/nothing")).toBe(false);
    expect(() => fs.statSync("/nothing")).toThrow(
      "ENOENT: no such file or directory, stat '/nothing'",
    );
    expect(() => fs.readlinkSync("/dir")).toThrow("EINVAL: invalid argument, readlink '/dir'");
    expect(store.reads).toBe(before);
    await volume.close();
  });

  test("readSync reads cached pages and starts no request", async () => {
    const handle = await volume.fs.open("/dir/file");
    const buffer = Buffer.alloc(100);
    const before = store.reads;
    expect(handle.readSync(buffer)).toBe(EAGAIN);
    expect(store.reads).toBe(before);
    await handle.read(Buffer.alloc(1), 0, 1, 0);
    expect(handle.readSync(buffer)).toBe(100);
    expect(handle.readSync(buffer, 0, 50)).toBe(50);
    expect(buffer.subarray(0, 50).equals(content.subarray(100, 150))).toBe(true);
    expect(handle.readSync(buffer, 0, 10, content.length)).toBe(0);
    expect(handle.closeSync()).toBeUndefined();
    expect(volume.fs.openHandles).toBe(0);
    await volume.close();
  });
});

describe.skipIf(!hasTools)("a read that fails says why", () => {
  const errorOf = (task: Promise<unknown>): Promise<FsError> =>
    task.then(
      () => expect.fail("it has not failed"),
      (thrown: unknown) => thrown as FsError,
    );

  test.each(["ext2", "ext4"])("%s: the store's own error is the cause", async (type) => {
    await open(type);
    const handle = await volume.fs.open("/dir/file");
    await handle.read(Buffer.alloc(1), 0, 1, 0);
    const cable = new Error("the cable is out");
    store.fails = () => cable;
    const error = await errorOf(handle.read(Buffer.alloc(1), 0, 1, MIB + 5 * 4096));
    expect(error).toBeInstanceOf(FsError);
    expect([error.code, error.syscall, error.cause]).toEqual(["EIO", "read", cable]);
    expect(error.message).toMatch(
      /^EIO: i\/o error, read: at byte \d+ of inode \d+: (?:byte|block) \d+ of /,
    );
    await volume.close();
  });

  test("a damaged extent block is EBADMSG or EUCLEAN with its block", async () => {
    const block = blockOf("ext4", "/sparse", "ETB0");
    await open("ext4", (bytes) => {
      bytes[block * 4096 + 20] = bytes[block * 4096 + 20]! ^ 0xff;
    });
    const error = await errorOf(volume.fs.readFile("/sparse"));
    expect(error.code).toBe("EBADMSG");
    expect(error.detail).toContain(`block ${block}`);
    await volume.close();
  });

  test("a damaged pointer block is EUCLEAN with its block, through mpage too", async () => {
    const block = blockOf("ext2", "/sparse", "IND");
    await open("ext2", (bytes) => {
      new DataView(bytes.buffer).setUint32(block * 4096, 0x7fff_ffff, true);
    });
    const error = await errorOf(volume.fs.readFile("/sparse"));
    expect(error.code).toBe("EUCLEAN");
    expect(error.detail).toMatch(/block 2147483647/);
    expect(error.message).toMatch(/^EUCLEAN: structure needs cleaning, read: at byte \d+ of inode/);
    await volume.close();
  });
});
