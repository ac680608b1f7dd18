/**
 * Every kind of call on one file of a volume, drawn from a seed, beside a plain array of bytes.
 *
 *     const run = new OneFile({ image, seed: 7, cacheBytes: 4 * MIB, base: 0, ... });
 *     await run.open();
 *     await run.steps(1000);             // throws with the calls that led there
 *     await run.close();                 // `image` is what the disk has
 *
 * Time is virtual and stands still unless a call waits for it, so a seed repeats the whole run.
 */
import { expect } from "vitest";
import { fadvise, POSIX_FADV_DONTNEED } from "../../src/cache/fadvise.ts";
import { filemapFlush } from "../../src/cache/filemap-flush.ts";
import { EAGAIN, type FileHandle } from "../../src/front/file-handle.ts";
import { openVolume, type Volume } from "../../src/front/volume.ts";
import type { DataMode } from "../../src/fs/ext/data-mode.ts";
import { JOURNAL_DATA_FL } from "../../src/fs/ext/layout.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../../src/fs/vfs-write.ts";
import { hasErrnoCode } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, roundDown, roundUp } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { ByteWindow } from "./byte-window.ts";
import { SlowStore, VirtualTime } from "./virtual-time.ts";

const NAME = "file";
const LOG_MAX = 40;
const RESERVE_WAIT_MS = 40_000;
const LATENCY_MS = 8;

/** What a run is of. */
export interface OneFileOptions {
  /** The image, which is changed. */
  readonly image: Uint8Array;
  readonly seed: number;
  readonly cacheBytes: number;
  /** Where in the file the calls begin. */
  readonly base: number;
  /** How far they reach. */
  readonly windowBytes: number;
  /** True if requests of the store take some time. */
  readonly isSlow: boolean;
  /** How data and the journal go together, else as the image says. */
  readonly data?: DataMode | undefined;
  /** True if the file is marked now and then, so that its data goes through the journal, or not. */
  readonly mayMark?: boolean | undefined;
}

type Step = (run: OneFile) => Promise<string>;

/** See the head of the file. */
export class OneFile {
  readonly options: OneFileOptions;
  readonly random: Random;
  readonly model: ByteWindow;
  readonly time: VirtualTime = new VirtualTime();
  readonly log: string[] = [];
  stepCount = 0;
  volume!: Volume;
  /** Opened for reading and writing. */
  handle!: FileHandle;
  /** Opened for appending. */
  appender!: FileHandle;
  blockBytes = 0;
  /** Calls that go on beside the others. */
  readonly beside: Promise<unknown>[] = [];

  constructor(options: OneFileOptions) {
    this.options = options;
    this.random = new Random(options.seed);
    this.model = new ByteWindow(options.base, options.windowBytes);
  }

  /** Mounts the image, and opens the file, which the first time is made. */
  async open(): Promise<void> {
    const { image, cacheBytes, isSlow, data } = this.options;
    const { clock } = this.time;
    const random = this.random.fork();
    const store = isSlow
      ? new SlowStore(image, this.time, random, LATENCY_MS)
      : new MemoryStore(image);
    const options = { writable: true, cache: cacheBytes, clock, random: random.fork(), data };
    this.volume = await this.time.settle(openVolume(store, options));
    this.blockBytes = this.volume.fileSystem.usage().blockBytes;
    await this.#openHandles();
  }

  async close(): Promise<void> {
    await this.join();
    await this.time.settle(this.volume.close());
  }

  /** `count` calls, whatever the seed draws. */
  async steps(count: number): Promise<void> {
    for (let step = 0; step < count; step++) await this.step();
  }

  async step(): Promise<void> {
    let said = "";
    try {
      const step = this.random.pick(this.options.mayMark === true ? MARKING_STEPS : STEPS);
      said = await step(this);
      expect(this.handle.vfsInode.size, "the size").toBe(this.model.size);
    } catch (thrown) {
      const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
      throw new Error(`call ${this.stepCount} ${said}: ${text}`);
    }
    this.stepCount++;
    this.log.push(said);
    if (this.log.length > LOG_MAX) this.log.shift();
  }

  /** Waits for the calls that go on beside. */
  async join(): Promise<void> {
    for (const call of this.beside.splice(0)) await this.time.settle(call);
  }

  async reopenHandles(): Promise<void> {
    await this.time.settle(this.handle.close());
    await this.time.settle(this.appender.close());
    await this.#openHandles();
  }

  /** A position that is likely to be odd in some way. */
  position(): number {
    const { random, model, blockBytes } = this;
    const end = Math.min(model.end, Math.max(model.size, model.base) + 40 * KIB);
    const kind = random.below(4);
    let at = model.base + random.below(end - model.base);
    if (kind === 0) at = roundDown(at, blockBytes) + random.below(3) - 1;
    if (kind === 1 && random.chance(0.5)) at = model.size + random.below(3) - 1;
    if (kind === 2) at = roundDown(at, 4 * KIB);
    return Math.min(Math.max(at, model.base), model.end - 1);
  }

  /** A length at `posBytes` that stays within the window. */
  length(posBytes: number): number {
    const { random, model, blockBytes } = this;
    const most = [16, 300, blockBytes, 5000, 3 * blockBytes, 90 * KIB][random.below(6)]!;
    const exact = random.chance(0.2) ? roundUp(1 + random.below(most), blockBytes) : 0;
    const length = exact === 0 ? 1 + random.below(most) : exact;
    return Math.min(length, model.end - posBytes);
  }

  bytes(lengthBytes: number): Uint8Array {
    const bytes = this.random.bytes(Math.min(lengthBytes, 64));
    const all = new Uint8Array(lengthBytes);
    for (let at = 0; at < lengthBytes; at += bytes.length) {
      all.set(bytes.subarray(0, Math.min(bytes.length, lengthBytes - at)), at);
    }
    // No byte is zero, so that lost ones are seen, and no stretch like the one before.
    for (let at = 0; at < lengthBytes; at++) all[at] = ((all[at]! + (at >> 6)) % 255) + 1;
    return all;
  }

  /** Bytes of the file, as the volume reads them. */
  async read(posBytes: number, lengthBytes: number): Promise<Uint8Array> {
    const into = new Uint8Array(lengthBytes);
    let done = 0;
    while (done < lengthBytes) {
      const reading = this.handle.read(into, done, lengthBytes - done, posBytes + done);
      const { bytesRead } = await this.time.settle(reading);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return into.subarray(0, done);
  }

  /** Reads the file and looks at all of it. */
  async verify(): Promise<void> {
    const { base, bytes } = this.model;
    const from = Math.max(0, base - 100);
    const lengthBytes = base + bytes.length + 100 - from;
    this.model.expectRead(from, lengthBytes, await this.read(from, lengthBytes));
  }

  /** `fallocate`, whose error's code is returned. */
  async allocate(mode: number, posBytes: number, lengthBytes: number): Promise<string> {
    const writer = this.volume.fileSystem.writer!;
    try {
      const inode = this.handle.vfsInode;
      await this.time.settle(writer.fallocate(inode, mode, posBytes, lengthBytes));
      return "";
    } catch (thrown) {
      if (hasErrnoCode(thrown)) return thrown.code;
      throw thrown;
    }
  }

  get hasExtents(): boolean {
    return (this.handle.vfsInode as unknown as { hasExtents: boolean }).hasExtents;
  }

  async #openHandles(): Promise<void> {
    const { fs } = this.volume;
    this.appender = await this.time.settle(fs.open(NAME, "a+"));
    this.handle = await this.time.settle(fs.open(NAME, "r+"));
  }
}

async function write(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const data = run.bytes(run.length(posBytes));
  const writing = run.handle.write(data, 0, data.length, posBytes);
  const { bytesWritten } = await run.time.settle(writing);
  expect(bytesWritten).toBe(data.length);
  run.model.write(posBytes, data);
  return `write ${posBytes}+${data.length}`;
}

async function writeNow(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const data = run.bytes(run.length(posBytes));
  const count = run.handle.writeSync(data, 0, data.length, posBytes);
  if (count === EAGAIN) return `write now ${posBytes}: EAGAIN`;
  expect(count).toBeGreaterThan(0);
  run.model.write(posBytes, data.subarray(0, count));
  return `write now ${posBytes}+${count} of ${data.length}`;
}

async function writePieces(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const data = run.bytes(run.length(posBytes));
  const cut = run.random.below(data.length + 1);
  const pieces = [data.subarray(0, cut), data.subarray(cut)];
  const { bytesWritten } = await run.time.settle(run.handle.writev(pieces, posBytes));
  expect(bytesWritten).toBe(data.length);
  run.model.write(posBytes, data);
  return `writev ${posBytes}+${data.length}`;
}

async function append(run: OneFile): Promise<string> {
  const { size, end, base } = run.model;
  if (size < base) return "no append";
  const data = run.bytes(Math.min(run.length(base), end - size));
  if (data.length === 0) return "no append";
  await run.time.settle(run.appender.writeFile(data));
  run.model.write(size, data);
  return `append ${size}+${data.length}`;
}

async function writeDurably(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const data = run.bytes(run.length(posBytes));
  const handle = await run.time.settle(run.volume.fs.open(NAME, "rs+"));
  await run.time.settle(handle.write(data, 0, data.length, posBytes));
  await run.time.settle(handle.close());
  run.model.write(posBytes, data);
  return `write durably ${posBytes}+${data.length}`;
}

async function truncate(run: OneFile): Promise<string> {
  const sizeBytes = run.random.chance(0.05) ? 0 : run.position();
  await run.time.settle(run.handle.truncate(sizeBytes));
  run.model.setSize(sizeBytes);
  return `truncate ${sizeBytes}`;
}

async function replace(run: OneFile): Promise<string> {
  if (!run.random.chance(0.1)) return "nothing";
  await run.time.settle(run.volume.fs.writeFile(NAME, ""));
  run.model.setSize(0);
  return "open with O_TRUNC";
}

async function read(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const lengthBytes = run.length(posBytes);
  run.model.expectRead(posBytes, lengthBytes, await run.read(posBytes, lengthBytes));
  return `read ${posBytes}+${lengthBytes}`;
}

async function readNow(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const into = new Uint8Array(run.length(posBytes));
  const count = run.handle.readSync(into, 0, into.length, posBytes);
  if (count === EAGAIN) return `read now ${posBytes}: EAGAIN`;
  const wanted = run.model.slice(posBytes, count);
  expect(count === 0 ? run.model.size <= posBytes : count === wanted.length).toBe(true);
  run.model.expectRead(posBytes, count, into.subarray(0, count));
  return `read now ${posBytes}+${count}`;
}

async function verify(run: OneFile): Promise<string> {
  if (run.random.chance(0.2)) await run.verify();
  return "verify";
}

/** A call of `fallocate` that every extent file takes; others refuse it. */
async function allocate(
  run: OneFile,
  mode: number,
  onModel: (from: number, end: number) => void,
): Promise<string> {
  const posBytes = run.position();
  const lengthBytes = run.length(posBytes);
  const code = await run.allocate(mode, posBytes, lengthBytes);
  expect(code).toBe(run.hasExtents ? "" : "EOPNOTSUPP");
  if (code === "") onModel(posBytes, posBytes + lengthBytes);
  return `fallocate mode ${mode} ${posBytes}+${lengthBytes} ${code}`;
}

async function punch(run: OneFile): Promise<string> {
  const posBytes = run.position();
  const lengthBytes = run.length(posBytes);
  const code = await run.allocate(
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    posBytes,
    lengthBytes,
  );
  expect(code).toBe("");
  run.model.zero(posBytes, posBytes + lengthBytes);
  return `punch ${posBytes}+${lengthBytes}`;
}

async function collapse(run: OneFile): Promise<string> {
  const { blockBytes, model } = run;
  const aligned = run.random.chance(0.9);
  let posBytes = run.position();
  let lengthBytes = run.length(posBytes);
  if (aligned) {
    posBytes = Math.max(roundDown(posBytes, blockBytes), roundUp(model.base, blockBytes));
    lengthBytes = roundUp(lengthBytes, blockBytes);
  }
  const isWhole = posBytes % blockBytes === 0 && lengthBytes % blockBytes === 0;
  const isInside = posBytes + lengthBytes < model.size;
  const code = await run.allocate(FALLOC_FL_COLLAPSE_RANGE, posBytes, lengthBytes);
  if (!run.hasExtents) expect(code).toBe("EOPNOTSUPP");
  else expect(code).toBe(isWhole && isInside ? "" : "EINVAL");
  if (code === "") model.collapse(posBytes, posBytes + lengthBytes);
  return `collapse ${posBytes}+${lengthBytes} ${code}`;
}

async function insert(run: OneFile): Promise<string> {
  const { blockBytes, model } = run;
  const aligned = run.random.chance(0.9);
  let posBytes = run.position();
  let lengthBytes = run.length(posBytes);
  if (aligned) {
    posBytes = Math.max(roundDown(posBytes, blockBytes), roundUp(model.base, blockBytes));
    lengthBytes = roundUp(lengthBytes, blockBytes);
  }
  if (model.size + lengthBytes > model.end) return "no insert";
  const isWhole = posBytes % blockBytes === 0 && lengthBytes % blockBytes === 0;
  const isInside = posBytes < model.size;
  const code = await run.allocate(FALLOC_FL_INSERT_RANGE, posBytes, lengthBytes);
  if (!run.hasExtents) expect(code).toBe("EOPNOTSUPP");
  else expect(code).toBe(isWhole && isInside ? "" : "EINVAL");
  if (code === "") model.insert(posBytes, lengthBytes);
  return `insert ${posBytes}+${lengthBytes} ${code}`;
}

/** What the volume calls a hole is zeros, and what is no zero it calls data. */
async function seek(run: OneFile): Promise<string> {
  const { model } = run;
  const { fileSystem } = run.volume;
  const inode = run.handle.vfsInode;
  const from = run.position();
  const data = await run.time.settle(fileSystem.seekData(inode, from));
  const hole = await run.time.settle(fileSystem.seekHole(inode, from));
  const dataEnd = data === -1 ? model.size : data;
  expect(data === -1 || (data >= from && data < model.size), "where data is").toBe(true);
  expect(model.hasData(from, dataEnd), "data in what is called a hole").toBe(false);
  if (from >= model.size) expect([data, hole]).toEqual([-1, -1]);
  else {
    expect(hole >= from && hole <= model.size, "where the hole is").toBe(true);
    if (hole < model.size) {
      const next = await run.time.settle(fileSystem.seekData(inode, hole));
      const end = next === -1 ? model.size : next;
      // Zeros that a call beside this one has read meanwhile count as data from then on.
      expect(end).toBeGreaterThanOrEqual(hole);
      expect(model.hasData(hole, end), `data in the hole ${hole}..${end}`).toBe(false);
    }
  }
  return `seek ${from} data ${data} hole ${hole}`;
}

async function sync(run: OneFile): Promise<string> {
  const kind = run.random.below(8);
  if (kind === 0) await run.time.settle(run.volume.sync());
  else if (kind < 4) await run.time.settle(run.handle.sync());
  else await run.time.settle(run.handle.datasync());
  return kind === 0 ? "sync" : "fsync";
}

async function drop(run: OneFile): Promise<string> {
  const file = run.handle.cacheFile!;
  const isAll = run.random.chance(0.5);
  if (isAll) await run.time.settle(run.handle.sync());
  const posBytes = isAll ? 0 : run.position();
  const lengthBytes = isAll ? 0 : run.length(posBytes);
  const dropped = fadvise(file, posBytes, lengthBytes, POSIX_FADV_DONTNEED);
  expect(await run.time.settle(dropped)).toBe(0);
  return `drop ${posBytes}+${lengthBytes}`;
}

async function flush(run: OneFile): Promise<string> {
  const started = filemapFlush(run.handle.cacheFile!.mapping);
  run.beside.push(Promise.resolve(started));
  return "flush begins";
}

async function syncBeside(run: OneFile): Promise<string> {
  if (run.beside.length > 3) await run.join();
  const isWhole = run.random.chance(0.1);
  run.beside.push(isWhole ? run.volume.sync() : run.handle.sync());
  return "sync begins";
}

async function readBeside(run: OneFile): Promise<string> {
  // Beside changes nobody knows what is read, but it must not harm.
  if (run.beside.length > 3) await run.join();
  const posBytes = run.position();
  const into = new Uint8Array(run.length(posBytes));
  run.beside.push(run.handle.read(into, 0, into.length, posBytes));
  return `read begins ${posBytes}+${into.length}`;
}

async function join(run: OneFile): Promise<string> {
  await run.join();
  return "join";
}

async function pass(run: OneFile): Promise<string> {
  if (!run.random.chance(0.3)) return "nothing";
  await run.time.pass(run.random.below(RESERVE_WAIT_MS));
  return "time passes";
}

async function reopen(run: OneFile): Promise<string> {
  if (!run.random.chance(0.2)) return "nothing";
  await run.join();
  await run.reopenHandles();
  return "reopen";
}

async function remount(run: OneFile): Promise<string> {
  if (!run.random.chance(0.1)) return "nothing";
  await run.close();
  await run.open();
  return "remount";
}

const KEEP = FALLOC_FL_KEEP_SIZE;
const times = (count: number, step: Step): Step[] => Array.from({ length: count }, () => step);

/** Each as often as it stands here. */
async function mark(run: OneFile): Promise<string> {
  const inode = run.handle.vfsInode;
  const flags = (inode.attributes().flags ^ JOURNAL_DATA_FL) >>> 0;
  const marked = run.volume.fileSystem.writer!.setAttributes(inode, { flags });
  if (run.random.chance(0.3)) run.beside.push(Promise.resolve(marked));
  else await run.time.settle(marked);
  return (flags & JOURNAL_DATA_FL) === 0 ? "mark off" : "mark on";
}

const STEPS: readonly Step[] = [
  ...times(10, write),
  ...times(4, writeNow),
  ...times(2, writePieces),
  ...times(4, append),
  ...times(1, writeDurably),
  ...times(5, truncate),
  ...times(1, replace),
  ...times(8, read),
  ...times(2, readNow),
  ...times(3, verify),
  ...times(2, (run) => allocate(run, 0, (_from, end) => run.model.grow(end))),
  ...times(2, (run) => allocate(run, KEEP, () => {})),
  ...times(2, (run) => {
    const zero = (from: number, end: number): void => {
      run.model.grow(end);
      run.model.zero(from, end);
    };
    return allocate(run, FALLOC_FL_ZERO_RANGE, zero);
  }),
  ...times(2, (run) => {
    const zero = (from: number, end: number): void => run.model.zero(from, end);
    return allocate(run, FALLOC_FL_ZERO_RANGE | KEEP, zero);
  }),
  ...times(4, punch),
  ...times(2, collapse),
  ...times(2, insert),
  ...times(3, seek),
  ...times(3, sync),
  ...times(3, drop),
  ...times(3, flush),
  ...times(3, syncBeside),
  ...times(2, readBeside),
  ...times(1, join),
  ...times(1, pass),
  ...times(1, reopen),
  ...times(1, remount),
];
const MARKING_STEPS: readonly Step[] = [...STEPS, ...times(4, mark)];
