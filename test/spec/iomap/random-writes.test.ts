/**
 * Case I138, as far as it is buffered: random writes, reads, truncations, holes, zeroings, stores
 * through memory mappings, write-outs and evictions against an array of bytes, with requests that
 * complete in any order and, in some runs, fail. The seed of a run is in its title.
 */
import { expect, test } from "vitest";
import { truncateInodePagesRange } from "../../../src/cache/truncate.ts";
import { equalBytes } from "../../../src/lib/bytes.ts";
import { EIO } from "../../../src/lib/errno.ts";
import { Random } from "../../../src/lib/random.ts";
import { PAGE_BYTES, pageOfByte, roundDown, roundUp } from "../../../src/lib/units.ts";
import { iomapPageMkwrite } from "../../../src/mapping/iomap/page-mkwrite.ts";
import { iomapFileUnshare } from "../../../src/mapping/iomap/unshare.ts";
import { runs } from "../../support/runs.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

const SIZE_MAX = 300_000;
const STEPS = runs(1700);

/** The file and what it should be. */
class World {
  readonly fs: WrittenScriptFs;
  readonly #random: Random;
  readonly #model = new Uint8Array(SIZE_MAX);
  /** Writes of the device may fail, and stay dirty. */
  readonly #isFailing: boolean;
  readonly #pending: Promise<unknown>[] = [];

  constructor(random: Random, order: number, maxOrder: number, isFailing: boolean) {
    this.#random = random;
    this.#isFailing = isFailing;
    this.fs = new WrittenScriptFs([], {
      sizeBytes: 0,
      order,
      maxOrder,
      onWriteError: isFailing ? "keep" : "drop",
      stableWrites: random.below(2) === 0,
    });
    this.fs.usesFolioBatch = random.below(2) === 0;
    this.fs.onBegin = () => (random.below(8) === 0 ? this.fs.clock.turn() : undefined);
    this.fs.onRange = () =>
      random.below(8) === 0 ? this.fs.clock.turn().then(() => undefined) : undefined;
    this.fs.onConvert = () => (random.below(4) === 0 ? this.fs.clock.turn() : undefined);
    this.fs.device.isHeld = true;
    this.#pump();
  }

  isStopped = false;

  /** The device: completes what is in flight, in any order, a bit at a time. */
  #pump(): void {
    const { device, clock } = this.fs;
    const { inFlight } = device;
    while (inFlight.length > 0 && this.#random.below(4) > 0) {
      const request = inFlight[this.#random.below(inFlight.length)]!;
      const fails = this.#isFailing && request.isWrite && this.#random.below(6) === 0;
      device.complete(request, fails ? -EIO : 0);
    }
    if (!this.isStopped) void clock.turn().then(() => this.#pump());
  }

  get #size(): number {
    return this.fs.inode.size;
  }

  #range(limit: number): [posBytes: number, lengthBytes: number] {
    const posBytes = this.#random.below(limit);
    const reach = this.#random.pick([100, 3000, 20_000, 100_000]);
    return [posBytes, 1 + this.#random.below(Math.min(reach, limit - posBytes))];
  }

  /** Does something, or starts it, as the locks of a file allow. */
  async step(): Promise<void> {
    const kind = this.#random.below(100);
    if (kind < 35) await this.#write();
    else if (kind < 55) await this.#read();
    else if (kind < 62) await this.#truncate();
    else if (kind < 68) await this.#punch();
    else if (kind < 74) await this.#zero();
    else if (kind < 80) await this.#store();
    else if (kind < 88) this.#pending.push(this.fs.flush(...this.#flushRange()));
    else if (kind < 92) await this.#sync();
    else if (kind < 98) this.fs.evict();
    else await iomapFileUnshare(this.fs.mapping, 0, SIZE_MAX, this.fs);
  }

  #flushRange(): [start: number, end: number] {
    const [start, length] = this.#range(SIZE_MAX);
    return [start, start + length];
  }

  async #write(): Promise<void> {
    const [posBytes, lengthBytes] = this.#range(SIZE_MAX);
    const size = this.#size;
    if (posBytes > size) {
      await this.#locked(() => this.#retried(() => this.fs.zero(size, posBytes - size)));
    }
    const bytes = this.#random.bytes(lengthBytes);
    expect(await this.fs.write(posBytes, bytes)).toBe(lengthBytes);
    this.#model.set(bytes, posBytes);
    expect(this.#size).toBe(Math.max(size, posBytes + lengthBytes));
  }

  async #read(): Promise<void> {
    if (this.#size === 0) return;
    const [posBytes, lengthBytes] = this.#range(this.#size);
    const bytes = await this.fs.read(posBytes, lengthBytes);
    const expected = this.#model.subarray(posBytes, posBytes + lengthBytes);
    expect(equalBytes(bytes, expected), `bytes from ${posBytes} on`).toBe(true);
  }

  async #truncate(): Promise<void> {
    const size = this.#random.below(SIZE_MAX);
    await this.#locked(() => this.#retried(() => this.fs.truncate(size)));
    this.#model.fill(0, size);
  }

  async #punch(): Promise<void> {
    if (this.#size === 0) return;
    const [posBytes, lengthBytes] = this.#range(this.#size);
    const endBytes = posBytes + lengthBytes;
    const { blockBytes } = this.fs.inode;
    const first = roundUp(posBytes, blockBytes);
    const last = roundDown(endBytes, blockBytes);
    await this.#locked(async () => {
      await this.#retried(() => this.fs.zero(posBytes, lengthBytes));
      if (first >= last) return;
      await this.#clean();
      await truncateInodePagesRange(this.fs.mapping, first, last - 1);
      this.fs.clear(first, last);
    });
    this.#model.fill(0, posBytes, endBytes);
  }

  async #zero(): Promise<void> {
    if (this.#size === 0) return;
    const [posBytes, lengthBytes] = this.#range(this.#size);
    await this.#locked(() => this.#retried(() => this.fs.zero(posBytes, lengthBytes)));
    this.#model.fill(0, posBytes, posBytes + lengthBytes);
  }

  /** A store through a memory mapping, be it behind the end of the file. */
  async #store(): Promise<void> {
    if (this.#size === 0) return;
    const posBytes = this.#random.below(this.#size);
    await this.fs.read(posBytes, 1);
    const folio = this.fs.mapping.folioAt(pageOfByte(posBytes));
    if (folio === undefined || !folio.isUptodate) return;
    folio.get();
    await iomapPageMkwrite(this.fs.mapping, folio, this.fs);
    const offsetBytes = posBytes - folio.posBytes;
    folio.bytes[offsetBytes] = 1;
    folio.bytes.fill(0xcc, Math.min(folio.sizeBytes, Math.max(0, this.#size - folio.posBytes)));
    folio.unlock();
    folio.put();
    this.#model[posBytes] = 1;
  }

  async #sync(): Promise<void> {
    await this.#clean();
    expect(this.fs.diskSize).toBe(this.#size);
  }

  /** Repeats `action` while the device refuses what that has to write. */
  async #retried(action: () => unknown): Promise<void> {
    for (;;) {
      try {
        await action();
        return;
      } catch (thrown) {
        if (!this.#isFailing) throw thrown;
        expect(thrown).toMatchObject({ code: "EIO" });
      }
    }
  }

  /** Writes all that is dirty, as often as it takes. */
  async #clean(): Promise<void> {
    do await this.fs.flush();
    while (this.fs.isDirty && this.#isFailing);
  }

  async #locked(action: () => unknown): Promise<void> {
    const { mapping } = this.fs;
    await mapping.invalidateLock.write();
    try {
      await action();
    } finally {
      mapping.invalidateLock.unlockWrite();
    }
  }

  /** Everything is written, evicted, and read from the device. */
  async finish(): Promise<void> {
    await Promise.all(this.#pending);
    await this.#clean();
    this.fs.cache.verify();
    expect([this.fs.cache.nrDirty, this.fs.cache.nrWriteback]).toEqual([0, 0]);
    this.fs.evict();
    expect(this.fs.mapping.nrpages).toBe(0);
    const bytes = await this.fs.read(0, SIZE_MAX);
    expect(equalBytes(bytes, this.#model.subarray(0, this.#size))).toBe(true);
    expect(this.fs.mappings.every(({ lengthBytes }) => lengthBytes > 0)).toBe(true);
    this.isStopped = true;
  }
}

test.each([
  [1, 4096, 4096, false],
  [2, 16384, 16384, false],
  [3, 65536, 65536, false],
  [4, 4096, 65536, false],
  [5, 4096, 65536, true],
  [6, 16384, 16384, true],
])(
  "I138 a file that is written at random is an array of bytes (seed %i, folios of %i to %i, failing: %s)",
  { timeout: 60_000 },
  async (seed, minBytes, maxBytes, isFailing) => {
    const random = new Random(seed);
    const world = new World(
      random,
      Math.log2(minBytes / PAGE_BYTES),
      Math.log2(maxBytes / PAGE_BYTES),
      isFailing,
    );
    for (let step = 0; step < STEPS; step++) {
      await world.step();
      world.fs.cache.verify();
    }
    await world.finish();
  },
);
