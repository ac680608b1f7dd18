import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writevSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Random } from "../lib/random.ts";
import { MIB } from "../lib/units.ts";
import { type FileIo, FileStore, openFileStore } from "./file-store.ts";

const scratch = mkdtempSync(join(tmpdir(), "quire-file-store-"));
afterAll(() => rmSync(scratch, { recursive: true }));
let fileCount = 0;

function fileOf(content: Uint8Array): string {
  const path = join(scratch, `${fileCount++}.img`);
  writeFileSync(path, content);
  return path;
}

const content: Uint8Array = new Random(1).bytes(10_000);

/**
 * System calls over `bytes` that do at most `stepBytes` at once, and note what they were asked for.
 */
class ShortIo implements FileIo {
  readonly vectorsMax = 3;
  readonly transferBytesMax = 1000;
  readonly asked: { vectors: number; bytes: number }[] = [];
  readonly #bytes: Uint8Array;
  readonly #stepBytes: number;

  constructor(bytes: Uint8Array, stepBytes: number) {
    this.#bytes = bytes;
    this.#stepBytes = stepBytes;
  }

  readv(_fd: number, into: readonly Uint8Array[], offsetBytes: number): Promise<number> {
    return this.#move(into, offsetBytes, (buffer, at) =>
      buffer.set(this.#bytes.subarray(at, at + buffer.length)),
    );
  }

  writev(_fd: number, from: readonly Uint8Array[], offsetBytes: number): Promise<number> {
    return this.#move(from, offsetBytes, (buffer, at) => this.#bytes.set(buffer, at));
  }

  async #move(
    buffers: readonly Uint8Array[],
    offsetBytes: number,
    copy: (buffer: Uint8Array, at: number) => void,
  ): Promise<number> {
    const bytes = buffers.reduce((total, { length }) => total + length, 0);
    this.asked.push({ vectors: buffers.length, bytes });
    let count = 0;
    for (const buffer of buffers) {
      const part = buffer.subarray(0, this.#stepBytes - count);
      copy(part, offsetBytes + count);
      count += part.length;
    }
    return count;
  }
}

async function shortStore(io: FileIo): Promise<FileStore> {
  const path = fileOf(content);
  const handle = await open(path);
  return new FileStore({
    handle,
    path,
    sizeBytes: content.length,
    isSparse: false,
    canWrite: true,
    io,
  });
}

describe("FileStore", () => {
  test("opens read-only unless asked, and never changes the file", async () => {
    const path = fileOf(content);
    const store = await openFileStore(path);
    await expect(store.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: "EROFS" });
    await store.close();
    expect(readFileSync(path).equals(content)).toBe(true);
  });

  test("writes to the file when asked, and leaves its length", async () => {
    const path = fileOf(content);
    const store = await openFileStore(path, { writable: true });
    await store.write(5, [new Uint8Array([1, 2]), new Uint8Array([3])], { fua: true });
    await store.flush();
    await store.close();
    const expected = content.slice();
    expected.set([1, 2, 3], 5);
    expect(readFileSync(path).equals(expected)).toBe(true);
  });

  const isLinux = process.platform === "linux";
  test.skipIf(!isLinux)("what is to be durable goes by a descriptor that syncs", async () => {
    const path = fileOf(content);
    const flags: number[] = [];
    const io: FileIo = {
      vectorsMax: 8,
      transferBytesMax: MIB,
      readv: () => Promise.reject(new Error("nothing is read")),
      async writev(fd, from, offsetBytes): Promise<number> {
        const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
        flags.push(Number.parseInt(/^flags:\s*(\d+)/m.exec(info)![1]!, 8));
        return writevSync(fd, from as NodeJS.ArrayBufferView[], offsetBytes);
      },
    };
    const store = await openFileStore(path, { writable: true }, io);
    expect(store.capabilities.hasFua).toBe(true);
    // Whatever has become of the name: another file has it.
    renameSync(path, `${path}.moved`);
    writeFileSync(path, "another");
    const word = new Uint8Array([1, 2, 3]);
    await store.write(0, word);
    await Promise.all([store.write(10, word, { fua: true }), store.write(20, word, { fua: true })]);
    await store.close();
    expect(flags.map((of) => (of & constants.O_DSYNC) !== 0)).toEqual([false, true, true]);
    const expected = content.slice();
    for (const at of [0, 10, 20]) expected.set(word, at);
    expect(readFileSync(`${path}.moved`).equals(expected)).toBe(true);
    expect(readFileSync(path, "utf8")).toBe("another");
    // Both are closed again.
    const before = openSync(path, "r");
    closeSync(before);
    const again = await openFileStore(`${path}.moved`, { writable: true });
    await again.write(0, word, { fua: true });
    await again.close();
    const after = openSync(path, "r");
    closeSync(after);
    expect(after).toBe(before);
  });

  test("creates nothing", async () => {
    const path = join(scratch, "missing");
    const opening = openFileStore(path, { writable: true });
    await expect(opening).rejects.toMatchObject({
      code: "ENOENT",
      message: `ENOENT: no such file or directory, open '${path}'`,
    });
    expect(() => statSync(path)).toThrow("ENOENT");
  });

  test("refuses a directory, and what is neither file nor block device", async () => {
    const directory = join(scratch, "directory");
    mkdirSync(directory);
    await expect(openFileStore(directory)).rejects.toMatchObject({ code: "EISDIR" });
    await expect(openFileStore("/dev/null")).rejects.toMatchObject({ code: "EINVAL" });
  });

  test.skipIf(process.platform === "win32")("refuses a FIFO without waiting for it", async () => {
    const path = join(scratch, "fifo");
    execFileSync("mkfifo", [path]);
    await expect(openFileStore(path)).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("opens an empty file", async () => {
    const store = await openFileStore(fileOf(new Uint8Array(0)));
    expect(store.sizeBytes).toBe(0);
    await store.read(0, []);
    await expect(store.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: "EINVAL" });
    await store.close();
  });

  test("fails with EIO and a sentence when the file was cut while it was open", async () => {
    const path = fileOf(content);
    const store = await openFileStore(path);
    truncateSync(path, 6000);
    const into = new Uint8Array(2000);
    await store.read(4000, into);
    expect(Buffer.from(into).equals(content.subarray(4000, 6000))).toBe(true);
    const detail = "the file has been cut to 6000 bytes or less since it was opened with 10000";
    await expect(store.read(5000, into)).rejects.toMatchObject({ code: "EIO", detail });
    await store.close();
  });

  test("goes on where the system stopped, within and between arrays", async () => {
    const io = new ShortIo(content.slice(), 7);
    const store = await shortStore(io);
    const into = [3, 4, 0, 20, 1].map((length) => new Uint8Array(length));
    await store.read(100, into);
    expect(Buffer.concat(into).equals(content.subarray(100, 128))).toBe(true);
    expect(io.asked.map(({ bytes }) => bytes)).toEqual([27, 21, 14, 7]);
    await store.close();
  });

  test("asks for no more vectors and bytes at once than the system takes", async () => {
    const io = new ShortIo(content.slice(), Number.POSITIVE_INFINITY);
    const store = await shortStore(io);
    const into = [1, 1, 1, 1, 1500, 600].map((length) => new Uint8Array(length));
    await store.read(0, into);
    expect(Buffer.concat(into).equals(content.subarray(0, 2104))).toBe(true);
    expect(io.asked).toEqual([
      { vectors: 3, bytes: 3 },
      { vectors: 2, bytes: 1000 },
      { vectors: 2, bytes: 1000 },
      { vectors: 1, bytes: 101 },
    ]);
    await store.close();
  });

  test("writes on where the system stopped", async () => {
    const bytes = content.slice();
    const store = await shortStore(new ShortIo(bytes, 9));
    const written = new Random(2).bytes(100);
    await store.write(50, [written.subarray(0, 30), written.subarray(30)]);
    const expected = content.slice();
    expected.set(written, 50);
    expect(Buffer.from(bytes).equals(expected)).toBe(true);
    await store.close();
  });

  test("names the failed transfer, with the system's error as cause", async () => {
    const cause = Object.assign(new Error("broken"), { code: "ENOSPC" });
    const failing: FileIo = {
      vectorsMax: 1024,
      transferBytesMax: MIB,
      readv: () => Promise.reject(new Error("odd")),
      writev: () => Promise.reject(cause),
    };
    const store = await shortStore(failing);
    const detail = "10 bytes at 20";
    await expect(store.read(20, new Uint8Array(10))).rejects.toMatchObject({ code: "EIO", detail });
    const write = store.write(20, new Uint8Array(10));
    await expect(write).rejects.toMatchObject({ code: "ENOSPC", syscall: "write", detail, cause });
    await store.close();
  });

  test("stops between two steps of an aborted transfer", async () => {
    const abort = new AbortController();
    const io = new ShortIo(content.slice(), 7);
    const store = await shortStore(io);
    const read = store.read(0, new Uint8Array(100), abort.signal);
    abort.abort("enough");
    await expect(read).rejects.toBe("enough");
    expect(io.asked.length).toBe(1);
    await store.close();
  });

  test("zeroes what is not zero, and keeps holes", async () => {
    const path = fileOf(new Uint8Array(0));
    truncateSync(path, 64 * MIB);
    const store = await openFileStore(path, { writable: true });
    await store.write(3 * MIB, content);
    await store.writeZeroes(100, 40 * MIB);
    await store.flush();
    const into = new Uint8Array(content.length);
    await store.read(3 * MIB, into);
    expect(into.every((byte) => byte === 0)).toBe(true);
    await store.close();
    const allocatedBytes = statSync(path).blocks * 512;
    expect(allocatedBytes).toBeLessThanOrEqual(3 * MIB);
  });
});
