/**
 * SimDisk: a disk with a volatile write cache, that can lose its power.
 *
 *     write() ---- submitted ----> completed ---- flush or FUA ----> durable
 *                  in flight       in the cache                      on the medium
 *
 *  1. A read sees what has completed, durable or not. Calls complete in an order of their own.
 *  2. A flush makes durable just the writes that had completed when it was submitted.
 *  3. A write with `fua` is durable when it completes; so are its sectors, not what came before it.
 *  4. A power cut (`crash`) leaves each sector by itself with its durable version or any newer one
 *     that completed or was in flight: torn, reordered, in part. A sector is never torn itself.
 *
 * Written bytes are copied at submission. All randomness is drawn from the `Random` that was given,
 * all time from the `Clock`: under a `VirtualClock`, equal seeds and calls give equal runs.
 *
 * The rule about flushes is that of `dm-log-writes` of Linux.
 */
import type { Clock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import type { Random } from "../lib/random.ts";
import { SECTOR_BYTES } from "../lib/units.ts";
import { flipBit } from "./faulty-store.ts";
import { StoreGuard, type StoreOp } from "./guard.ts";
import { copyIn, copyOut } from "./memory-store.ts";
import { type CrashChoice, SectorVersions, type SectorWrite } from "./sector-versions.ts";
import { type FaultPlan, SimFaults } from "./sim-faults.ts";
import { sleep, untilAborted } from "./sleep.ts";
import {
  type Store,
  type StoreCapabilities,
  type StoreWriteOptions,
  transferBytes,
} from "./store.ts";

/** What a `slow` call takes at most. */
const SLOW_MS_MAX = 60_000;

export interface SimDiskOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly name?: string;
  /** Unit that a power cut leaves whole: 512 if left out, or 4096. */
  readonly sectorBytes?: number;
  readonly canWrite?: boolean;
  /** How long a call takes; up to 10 ms, at random, if left out. */
  readonly latencyMs?: (op: StoreOp, lengthBytes: number, random: Random) => number;
  readonly faults?: FaultPlan;
}

export class SimDisk implements Store {
  readonly name: string;
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;
  /** Which faults have happened. */
  readonly faults: SimFaults;
  /** Writes submitted so far: the next one has this number. */
  writeCount = 0;
  readonly #sectors: SectorVersions;
  readonly #options: SimDiskOptions;
  readonly #random: Random;
  readonly #crashRandom: Random;
  readonly #guard: StoreGuard;
  readonly #inFlight = new Set<SectorWrite>();
  readonly #badSectors = new Set<number>();
  readonly #hung = new WaitQueue();
  #completionCount = 0;

  /**
   * `content` is borrowed for good and never changed; a number makes a disk of that many zero
   * bytes.
   */
  constructor(content: Uint8Array | number | SectorVersions, options: SimDiskOptions) {
    this.#sectors = sectorsOf(content, options.sectorBytes ?? SECTOR_BYTES);
    this.#options = options;
    this.#random = options.random.fork();
    this.#crashRandom = options.random.fork();
    this.faults = new SimFaults(options.faults ?? {}, options.random.fork());
    this.name = options.name ?? "simulated disk";
    this.sizeBytes = this.#sectors.sizeBytes;
    this.capabilities = {
      canWrite: options.canWrite ?? true,
      canDiscard: true,
      hasFua: true,
      stableWrites: false,
      hasVolatileCache: options.canWrite ?? true,
      blockBytes: this.#sectors.sectorBytes,
    };
    this.#guard = new StoreGuard(this.name, this.sizeBytes, this.capabilities.canWrite);
  }

  async read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    const lengthBytes = transferBytes(into);
    this.#guard.check("read", offsetBytes, lengthBytes, signal);
    return this.#serve("read", lengthBytes, signal, () => {
      if (signal?.aborted) return; // The caller has its arrays back.
      const bytes = new Uint8Array(lengthBytes);
      this.#sectors.read(offsetBytes, bytes);
      if (lengthBytes > 0 && this.faults.draw("bitFlip"))
        flipBit(bytes, this.#random.below(lengthBytes * 8));
      copyOut(bytes, 0, into);
      this.#failRead(offsetBytes, lengthBytes);
    });
  }

  async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options: StoreWriteOptions = {},
  ): Promise<void> {
    const bytes = new Uint8Array(transferBytes(from));
    this.#guard.check("write", offsetBytes, bytes.length, options.signal);
    copyIn(bytes, 0, from);
    return this.#write("write", offsetBytes, bytes, options);
  }

  async flush(signal?: AbortSignal): Promise<void> {
    this.#guard.check("flush", 0, 0, signal);
    const completion = this.#completionCount;
    return this.#serve("flush", 0, signal, () => {
      if (this.faults.draw("flushError")) throw this.#error("EIO", "flush", "injected");
      this.#sectors.harden(completion);
    });
  }

  /** Zeroes the sectors that lie wholly inside the range, as any write. */
  async discard(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#guard.check("discard", offsetBytes, lengthBytes, signal);
    const { sectorBytes } = this.#sectors;
    const start = Math.ceil(offsetBytes / sectorBytes) * sectorBytes;
    const end = Math.floor((offsetBytes + lengthBytes) / sectorBytes) * sectorBytes;
    const zeros = new Uint8Array(Math.max(0, end - start));
    return this.#write("discard", Math.min(start, this.sizeBytes), zeros, { signal });
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#guard.check("writeZeroes", offsetBytes, lengthBytes, signal);
    return this.#write("writeZeroes", offsetBytes, new Uint8Array(lengthBytes), { signal });
  }

  close(): Promise<void> {
    return this.#guard.close(() => {});
  }

  /** Number of sectors that differ from the medium's, with what has completed. */
  get volatileCount(): number {
    return this.#sectors.volatileCount;
  }

  /** Number of calls that hang. */
  get hungCount(): number {
    return this.#hung.length;
  }

  /** Ends all faults, bad sectors too, and lets hanging calls go on. */
  heal(): void {
    this.faults.heal();
    this.#badSectors.clear();
    this.#hung.wakeAll();
  }

  /**
   * The disk as it comes back after a power cut at this moment: see rule 4. `choose` says which
   * version of each sector survives; at random if left out. This disk goes on as if nothing had
   * happened, so that many crashes of one moment can be tried. Costs the changed sectors, not the
   * size.
   */
  crash(choose?: CrashChoice): SimDisk {
    const random = this.#crashRandom.fork();
    const atRandom: CrashChoice = (_sector, writes) => random.below(writes.length + 1);
    const sectors = this.#sectors.crash(this.#inFlight, choose ?? atRandom);
    return new SimDisk(sectors, { ...this.#options, random });
  }

  /** A copy of what is durable. */
  durableImage(): Uint8Array {
    return this.#sectors.durableImage();
  }

  #write(
    op: StoreOp,
    offsetBytes: number,
    bytes: Uint8Array,
    { fua = false, signal }: StoreWriteOptions,
  ): Promise<void> {
    const write = { write: this.writeCount++, offsetBytes, bytes };
    this.#inFlight.add(write);
    return this.#serve(op, bytes.length, signal, () => {
      this.#inFlight.delete(write);
      this.#complete(op, write, fua);
    });
  }

  /** The write arrives in the cache, or not. */
  #complete(op: StoreOp, write: SectorWrite, isFua: boolean): void {
    if (this.faults.draw("noSpace")) throw this.#error("ENOSPC", op, "injected");
    if (this.faults.draw("lostWrite")) return;
    const arrived = this.faults.draw("misdirectedWrite")
      ? { ...write, offsetBytes: this.#random.below(this.sizeBytes - write.bytes.length + 1) }
      : write;
    const sectors = this.#sectors.sectorsOf(arrived.offsetBytes, arrived.bytes.length);
    const completion = ++this.#completionCount;
    if (this.faults.draw("writeError")) {
      const some = sectors.filter(() => this.#random.chance(0.5));
      this.#sectors.put(arrived, completion, some);
      throw this.#error("EIO", op, `injected, ${write.bytes.length} bytes at ${write.offsetBytes}`);
    }
    this.#sectors.put(arrived, completion, sectors);
    for (const sector of sectors) this.#badSectors.delete(sector);
    if (isFua) this.#sectors.harden(completion, sectors);
  }

  #failRead(offsetBytes: number, lengthBytes: number): void {
    const sectors = this.#sectors.sectorsOf(offsetBytes, lengthBytes);
    if (sectors.length > 0 && this.faults.draw("badSector"))
      this.#badSectors.add(this.#random.pick(sectors));
    const bad = sectors.find((sector) => this.#badSectors.has(sector));
    if (bad !== undefined) throw this.#error("EIO", "read", `sector ${bad} is bad`);
    if (this.faults.draw("readError"))
      throw this.#error("EIO", "read", `injected, ${lengthBytes} bytes at ${offsetBytes}`);
  }

  /** Runs `complete` when the call's time has come, also if nobody waits for it any more. */
  #serve(
    op: StoreOp,
    lengthBytes: number,
    signal: AbortSignal | undefined,
    complete: () => void,
  ): Promise<void> {
    const { clock, latencyMs = upTo10Ms } = this.#options;
    let delayMs = latencyMs(op, lengthBytes, this.#random);
    if (this.faults.draw("slow")) delayMs += this.#random.below(SLOW_MS_MAX);
    const isHanging = this.faults.draw("hang");
    const done = this.#guard.track(async () => {
      await sleep(clock, delayMs);
      if (isHanging) await this.#hung.wait();
      complete();
    });
    return signal === undefined ? done : untilAborted(done, signal);
  }

  #error(code: "EIO" | "ENOSPC", op: StoreOp, detail: string): FsError {
    return new FsError(code, { syscall: op, path: this.name, detail });
  }
}

function sectorsOf(
  content: Uint8Array | number | SectorVersions,
  sectorBytes: number,
): SectorVersions {
  if (content instanceof SectorVersions) return content;
  const base = typeof content === "number" ? new Uint8Array(content) : content;
  return new SectorVersions(base, sectorBytes);
}

function upTo10Ms(_op: StoreOp, _lengthBytes: number, random: Random): number {
  return random.below(10_000) / 1000;
}
