/**
 * FaultVolume: a small volume whose n-th read, write, flush or allocation fails, the programs that
 * work on it whatever fails, and what they have to find afterwards.
 *
 *     workload --> attempts: each may fail, but only as calls fail
 *              --> told: every open file hears of its lost writes, once
 *              --> close: nothing is left behind
 *              --> crash: what is on the device is recovered; what was synced is there
 */
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import type { FileHandle } from "../../src/front/file-handle.ts";
import { VolumeFs } from "../../src/front/promises.ts";
import type { ExtFileSystem } from "../../src/fs/ext/ext-fs.ts";
import { mountExt } from "../../src/fs/ext/ext-fs.ts";
import { ExtVolumeWriter } from "../../src/fs/ext/ext-volume-writer.ts";
import { assert } from "../../src/lib/assert.ts";
import { ENOMEM, FsError } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { FaultyStore } from "../../src/store/faulty-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { sleep } from "../../src/store/sleep.ts";
import { type ContentChange, cut, FaultyFile, written, zeroed } from "./faulty-file.ts";
import { VirtualTime } from "./virtual-time.ts";

export type FaultKind = "read" | "write" | "flush" | "alloc";
export const FAULT_KINDS: readonly FaultKind[] = ["read", "write", "flush", "alloc"];
/** Once; from then on until the workload is over; until the volume is closed. */
export type FaultLength = "once" | "healed" | "forever";
export const FAULT_LENGTHS: readonly FaultLength[] = ["once", "healed", "forever"];
export type WriteErrorPolicy = "keep" | "drop";
export const WRITE_ERROR_POLICIES: readonly WriteErrorPolicy[] = ["keep", "drop"];

/** What fails in a run. */
export interface PlannedFault {
  readonly kind: FaultKind;
  /** How many are let through first. */
  readonly skipCount: number;
  readonly length: FaultLength;
  readonly policy: WriteErrorPolicy;
}

/** Codes that a call may fail with when something below it has failed. */
const FAULT_CODES: ReadonlySet<string> = new Set(["EIO", "ENOMEM", "EROFS"]);
/** And what may follow from a call before that has failed. */
const LATER_CODES: ReadonlySet<string> = new Set(["ENOENT", "ENODATA", "EEXIST", "ENOTEMPTY"]);
/** What a full device, or a file with a block map, may answer at any time. */
const USUAL_CODES: ReadonlySet<string> = new Set(["ENOSPC", "EOPNOTSUPP"]);
const ROOT_CONTEXT = { uid: 0, gid: 0, groups: [], umask: 0o022 };

/** A file that is open, and what it holds. */
export class OpenFaultyFile {
  readonly handle: FileHandle;
  readonly file: FaultyFile;
  readonly #volume: FaultVolume;

  constructor(volume: FaultVolume, handle: FileHandle, file: FaultyFile) {
    this.#volume = volume;
    this.handle = handle;
    this.file = file;
  }

  async write(posBytes: number, bytes: Uint8Array): Promise<boolean> {
    const ended = this.file.change(written(posBytes, bytes));
    const result = await this.#volume.attempt(() =>
      this.handle.write(bytes, 0, bytes.length, posBytes),
    );
    ended(result?.bytesWritten === bytes.length);
    return result !== undefined;
  }

  truncate(lengthBytes: number): Promise<boolean> {
    return this.#change(cut(lengthBytes), () => this.handle.truncate(lengthBytes));
  }

  /** Punches a hole of zeros, or has zeros written. */
  async zero(mode: number, startBytes: number, lengthBytes: number): Promise<boolean> {
    const change = zeroed(startBytes, startBytes + lengthBytes);
    const { writer } = this.#volume;
    return this.#change(change, async () => {
      await writer.fallocate(this.handle.vfsInode, mode, startBytes, lengthBytes);
    });
  }

  async sync(): Promise<boolean> {
    const { file } = this;
    const result = await this.#volume.attempt(async () => {
      await this.handle.sync();
      return true;
    });
    if (result === true) file.synced();
    else this.#volume.noteLost(file);
    return result === true;
  }

  async read(): Promise<void> {
    const into = new Uint8Array(this.file.sizeBytes + 1);
    const result = await this.#volume.attempt(() => this.handle.read(into, 0, into.length, 0));
    if (result === undefined) return;
    // A read may end where it fails; the next one would tell.
    const isPart = this.#volume.hasFailed && result.bytesRead < this.file.sizeBytes;
    const wrong = this.file.readDifference(into.subarray(0, result.bytesRead), isPart);
    if (wrong !== undefined) this.#volume.complain(`read: ${wrong}`);
  }

  async close(): Promise<void> {
    this.#volume.handles.delete(this);
    await this.#volume.attempt(() => this.handle.close());
  }

  async #change(change: ContentChange, call: () => Promise<void>): Promise<boolean> {
    const ended = this.file.change(change);
    const result = await this.#volume.attempt(async () => {
      await call();
      return true;
    });
    ended(result === true);
    return result === true;
  }
}

/** See the head of the file. */
export class FaultVolume {
  readonly fs: VolumeFs;
  readonly random: Random = new Random(11);
  readonly handles: Set<OpenFaultyFile> = new Set();
  /** By path. */
  readonly files: Map<string, FaultyFile> = new Map();
  readonly complaints: string[] = [];
  readonly #time: VirtualTime;
  readonly #store: FaultyStore;
  readonly #counting: CountingStore;
  readonly #cache: PageCache;
  readonly #fileSystem: ExtFileSystem;
  readonly #policy: WriteErrorPolicy;
  #allocFailuresLeft = 0;
  #allocCount = 0;
  #armed: PlannedFault | undefined;
  #disarm: () => void = () => undefined;

  /** For `open` alone. */
  private constructor(
    time: VirtualTime,
    stores: { readonly faulty: FaultyStore; readonly counting: CountingStore },
    cache: PageCache,
    fileSystem: ExtFileSystem,
    policy: WriteErrorPolicy,
  ) {
    this.#time = time;
    this.#store = stores.faulty;
    this.#counting = stores.counting;
    this.#cache = cache;
    this.#fileSystem = fileSystem;
    this.#policy = policy;
    const { clock } = time;
    this.fs = new VolumeFs(fileSystem, { caller: ROOT_CONTEXT, clock, random: new Random(3) });
    this.#wrapAllocations();
  }

  /** Mounts the image in `bytes`, which are the store's own, with 4 MiB of cache. */
  static async open(bytes: Uint8Array, policy: WriteErrorPolicy): Promise<FaultVolume> {
    const time = new VirtualTime();
    const { clock } = time;
    const faulty = new FaultyStore(new MemoryStore(bytes), { clock });
    const counting = new CountingStore(faulty);
    const bdev = new StoreBlockDevice(counting, { clock });
    const cache = new PageCache({ arenaBytes: 4 * MIB, clock });
    const options = { clock, writable: true, random: new Random(5), onWriteError: policy };
    const mounting = mountExt(bdev, cache, options);
    const fileSystem = await time.settle(mounting);
    return new FaultVolume(time, { faulty, counting }, cache, fileSystem, policy);
  }

  get writer(): ExtVolumeWriter {
    const { writer } = this.#fileSystem;
    assert(writer instanceof ExtVolumeWriter, "it is mounted for writing");
    return writer;
  }

  /** The failure after which nothing is written any more. */
  get abortCause(): Error | undefined {
    return this.writer.mount.writer.transactions.failure;
  }

  /** Lets `fault` happen from now on. */
  arm(fault: PlannedFault): void {
    const { kind, skipCount, length } = fault;
    const calls = length === "once" ? 1 : Infinity;
    this.#armed = fault;
    this.#counting.reset();
    this.#allocCount = 0;
    if (kind === "alloc") {
      this.#allocFailuresLeft = calls;
      return;
    }
    // Every other time a part of it is done.
    const transferredBytes = skipCount % 2 === 0 ? 0 : 512;
    this.#disarm = this.#store.inject({ op: kind, skipCalls: skipCount, calls, transferredBytes });
  }

  /** True if what was armed has happened. */
  get hasFailed(): boolean {
    if (this.#armed === undefined) return false;
    return this.counts[this.#armed.kind] > this.#armed.skipCount;
  }

  /** Calls of each kind since `arm`. */
  get counts(): Readonly<Record<FaultKind, number>> {
    const { reads, writes, flushes } = this.#counting;
    return { read: reads, write: writes, flush: flushes, alloc: this.#allocCount };
  }

  heal(): void {
    this.#disarm();
    this.#allocFailuresLeft = 0;
  }

  complain(text: string): void {
    this.complaints.push(text);
  }

  /** Does `call`, which may fail only as calls do. Returns undefined if it has failed. */
  async attempt<T>(call: () => Promise<T>): Promise<T | undefined> {
    try {
      return await call();
    } catch (thrown) {
      this.#judge(thrown);
      return undefined;
    }
  }

  async settle<T>(work: Promise<T>): Promise<T> {
    return this.#time.settle(work);
  }

  /** Lets time pass, in which the flusher and the commits do their work. */
  async pass(lengthMs: number): Promise<void> {
    await sleep(this.#time.clock, lengthMs);
  }

  async open(path: string, flags = "w+"): Promise<OpenFaultyFile | undefined> {
    const known = this.files.get(path);
    const isEmptied = flags.startsWith("w") && known !== undefined;
    const ended = isEmptied ? known.change(cut(0)) : () => undefined;
    const handle = await this.attempt(() => this.fs.open(path, flags));
    ended(handle !== undefined);
    if (handle === undefined) return undefined;
    const file = known ?? new FaultyFile();
    this.files.set(path, file);
    const open = new OpenFaultyFile(this, handle, file);
    this.handles.add(open);
    return open;
  }

  /** Makes a file of `bytes` and closes it; true if all of that went well. */
  async put(path: string, bytes: Uint8Array): Promise<boolean> {
    const open = await this.open(path);
    const isWritten = (await open?.write(0, bytes)) === true;
    await open?.close();
    return isWritten;
  }

  async unlink(path: string): Promise<boolean> {
    const file = this.files.get(path);
    const wasPromised = file?.isPromised ?? false;
    if (file !== undefined) file.isPromised = false;
    const isDone = await this.did(() => this.fs.unlink(path));
    if (isDone) this.files.delete(path);
    else if (await this.#isThere(path)) {
      // It has changed nothing: what was promised still is.
      if (file !== undefined) file.isPromised = wasPromised;
    } else if (file !== undefined && this.files.get(path) === file) {
      this.complain(`unlink ${path} has failed, but the name is gone`);
      this.files.delete(path);
    }
    return isDone;
  }

  async rename(from: string, to: string): Promise<boolean> {
    const moved = this.files.get(from);
    const replaced = this.files.get(to);
    const wasPromised = moved?.isPromised ?? false;
    if (moved !== undefined) moved.isPromised = false;
    const isDone = await this.did(() => this.fs.rename(from, to));
    if (!isDone && moved !== undefined) moved.isPromised = wasPromised;
    if (!isDone || moved === undefined) return isDone;
    if (this.hasFailed) this.noteLost(moved);
    this.files.delete(from);
    this.files.set(to, moved);
    if (replaced !== undefined) moved.replaces(replaced);
    return true;
  }

  /** True if `call` did not fail. */
  async did(call: () => Promise<unknown>): Promise<boolean> {
    const result = await this.attempt(async () => {
      await call();
      return true;
    });
    return result === true;
  }

  async sync(): Promise<boolean> {
    const files = [...this.files.values()];
    const isDone = await this.did(async () => this.writer.sync());
    for (const file of files) {
      if (isDone) file.synced();
      else this.noteLost(file);
    }
    return isDone;
  }

  noteLost(file: FaultyFile): void {
    if (this.#policy === "drop") file.lost();
  }

  /** After the faults: what every open file is told, and what can be done. */
  async checkHealed(): Promise<void> {
    for (const open of this.handles) await this.#checkTold(open);
    const isAborted = this.abortCause !== undefined;
    for (const path of this.files.keys()) await this.#checkRead(path);
    const made = await this.#codeOf(() => this.fs.mkdir("/probe"));
    if (made !== (isAborted ? "EROFS" : undefined)) {
      this.complain(`mkdir: ${made}, ${isAborted ? "after" : "without"} an abort`);
    }
    if (made === undefined) {
      const removed = await this.#codeOf(() => this.fs.rmdir("/probe"));
      if (removed !== undefined) this.complain(`rmdir: ${removed}`);
    }
  }

  /** Closes all, and checks that nothing is left. True if closing did not fail. */
  async close(): Promise<boolean> {
    const failures: unknown[] = [];
    await this.settle(this.fs.closeAll()).catch((thrown: unknown) => failures.push(thrown));
    await this.settle(this.#fileSystem.close()).catch((thrown: unknown) => failures.push(thrown));
    for (const thrown of failures) this.#judge(thrown);
    this.#checkNothingLeft();
    if (failures.length === 0 && this.#policy === "keep") {
      for (const file of this.files.values()) file.synced();
    }
    return failures.length === 0;
  }

  #judge(thrown: unknown): void {
    assert(thrown instanceof Error, "only errors are thrown");
    const code = thrown instanceof FsError ? thrown.code : "";
    if (FAULT_CODES.has(code)) {
      if (!this.hasFailed) this.complain(`without a fault: ${thrown.stack}`);
    } else if (!USUAL_CODES.has(code) && !(LATER_CODES.has(code) && this.hasFailed)) {
      this.complain(thrown.stack ?? thrown.message);
    }
  }

  async #codeOf(call: () => Promise<unknown>): Promise<string | undefined> {
    try {
      await call();
      return undefined;
    } catch (thrown) {
      return thrown instanceof FsError ? thrown.code : String(thrown);
    }
  }

  async #checkTold({ handle, file }: OpenFaultyFile): Promise<void> {
    const { cacheFile } = handle;
    const isUntold =
      cacheFile !== null && cacheFile.mapping.wbErr.check(cacheFile.wbErrSince.since) !== 0;
    const first = await this.#codeOf(() => handle.sync());
    if (first !== undefined) this.noteLost(file);
    if (isUntold && first === undefined) this.complain("fsync: a lost write was not told of");
    const second = await this.#codeOf(() => handle.sync());
    const isAborted = this.abortCause !== undefined;
    if (second !== undefined && !isAborted) this.complain(`fsync again: ${second}`);
    if (isAborted && second !== "EIO" && second !== "EROFS")
      this.complain(`fsync after the abort: ${second}`);
    if (second === undefined) file.synced();
  }

  async #checkRead(path: string): Promise<void> {
    const file = this.files.get(path)!;
    try {
      const wrong = file.readDifference(await this.fs.readFile(path));
      if (wrong !== undefined) this.complain(`${path}: ${wrong}`);
    } catch (thrown) {
      this.complain(`${path}: reading it fails once all is well: ${String(thrown)}`);
    }
  }

  async #isThere(path: string): Promise<boolean> {
    const code = await this.#codeOf(() => this.fs.lstat(path));
    return code !== "ENOENT";
  }

  #checkNothingLeft(): void {
    const cache = this.#cache;
    try {
      cache.verify();
    } catch (thrown) {
      this.complain(String(thrown));
    }
    const { arena, lockedCount, nrDirty, nrWriteback, memoryWaiterCount, flushers } = cache;
    const counts = {
      frames: arena.frameCount - arena.freeFrames,
      lockedCount,
      nrDirty,
      nrWriteback,
      memoryWaiterCount,
      flushers: flushers.size,
      openHandles: this.fs.openHandles,
      timers: this.#time.clock.pendingTimers,
    };
    for (const [name, count] of Object.entries(counts)) {
      if (count !== 0) this.complain(`left after close: ${count} ${name}`);
    }
  }

  #wrapAllocations(): void {
    const cache = this.#cache;
    const fails = (): boolean => {
      this.#allocCount++;
      const fault = this.#armed;
      if (fault?.kind !== "alloc" || this.#allocCount <= fault.skipCount) return false;
      return this.#allocFailuresLeft-- > 0;
    };
    const { allocFolio, allocForReadahead, allocFolioForWriteback, allocFolioWait } = cache;
    cache.allocFolio = (...args) => (fails() ? null : allocFolio.apply(cache, args));
    cache.allocForReadahead = (...args) => (fails() ? null : allocForReadahead.apply(cache, args));
    cache.allocFolioForWriteback = (...args) =>
      fails() ? null : allocFolioForWriteback.apply(cache, args);
    cache.allocFolioWait = (...args) => (fails() ? -ENOMEM : allocFolioWait.apply(cache, args));
  }
}
