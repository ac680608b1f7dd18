/**
 * SectorVersions: what a disk with a volatile cache holds, sector by sector.
 *
 *     base        the image as it was, borrowed and never changed
 *     durable     sector -> bytes        survives a power cut
 *     volatile    sector -> versions     newer than durable, oldest first; a read sees the last one
 *
 * Only what was changed is stored, so a copy for a crash costs the changed sectors and not the
 * image.
 */

/** One sector as one write left it. */
export interface SectorVersion {
  /** Number of the write, in the order of submission. */
  readonly write: number;
  /** Place in the order of completion. */
  readonly completion: number;
  readonly bytes: Uint8Array;
}

/** Bytes that a write brings, and which write it is. */
export interface SectorWrite {
  readonly write: number;
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/**
 * For a sector and the numbers of the writes it lost its durability to, how many of them survive:
 * 0.. all.
 */
export type CrashChoice = (sector: number, writes: readonly number[]) => number;

export class SectorVersions {
  readonly sectorBytes: number;
  readonly #base: Uint8Array;
  readonly #durable: Map<number, Uint8Array>;
  readonly #volatile = new Map<number, SectorVersion[]>();

  constructor(
    base: Uint8Array,
    sectorBytes: number,
    durable: ReadonlyMap<number, Uint8Array> = new Map(),
  ) {
    this.#base = base;
    this.sectorBytes = sectorBytes;
    this.#durable = new Map(durable);
  }

  get sizeBytes(): number {
    return this.#base.length;
  }

  /** Number of sectors that a power cut may change. */
  get volatileCount(): number {
    return this.#volatile.size;
  }

  /** Fills `into` with the newest bytes from `offsetBytes` on. */
  read(offsetBytes: number, into: Uint8Array): void {
    into.set(this.#base.subarray(offsetBytes, offsetBytes + into.length));
    for (const sector of this.sectorsOf(offsetBytes, into.length)) {
      if (!this.#volatile.has(sector) && !this.#durable.has(sector)) continue;
      const shiftBytes = sector * this.sectorBytes - offsetBytes;
      const bytes = this.#newest(sector).subarray(Math.max(0, -shiftBytes));
      const at = Math.max(0, shiftBytes);
      into.set(bytes.subarray(0, into.length - at), at);
    }
  }

  /** Puts a version of each sector that `write` touches, or of those of `sectors`, on top. */
  put(
    { write, offsetBytes, bytes }: SectorWrite,
    completion: number,
    sectors: Iterable<number> = this.sectorsOf(offsetBytes, bytes.length),
  ): void {
    for (const sector of sectors) {
      const merged = this.#newest(sector).slice();
      const shiftBytes = offsetBytes - sector * this.sectorBytes;
      const at = Math.max(0, shiftBytes);
      merged.set(bytes.subarray(Math.max(0, -shiftBytes), merged.length - shiftBytes), at);
      const versions = this.#volatile.get(sector);
      const version = { write, completion, bytes: merged };
      if (versions === undefined) this.#volatile.set(sector, [version]);
      else versions.push(version);
    }
  }

  /** Makes durable what completed up to `completion`; of several versions of a sector, the last. */
  harden(completion: number, sectors: Iterable<number> = [...this.#volatile.keys()]): void {
    for (const sector of sectors) {
      const versions = this.#volatile.get(sector) ?? [];
      const newer = versions.filter((version) => version.completion > completion);
      const last = versions[versions.length - newer.length - 1];
      if (last !== undefined) this.#durable.set(sector, last.bytes);
      if (newer.length > 0) this.#volatile.set(sector, newer);
      else this.#volatile.delete(sector);
    }
  }

  /**
   * What a power cut leaves: for each sector its durable version or one of the newer ones, as
   * `choose` says. Writes of `inFlight` may have arrived too, whole or in part. This object stays
   * as it is.
   */
  crash(inFlight: Iterable<SectorWrite>, choose: CrashChoice): SectorVersions {
    const before = new SectorVersions(this.#base, this.sectorBytes, this.#durable);
    for (const [sector, versions] of this.#volatile) before.#volatile.set(sector, [...versions]);
    for (const write of inFlight) before.put(write, Number.POSITIVE_INFINITY);
    const after = new SectorVersions(this.#base, this.sectorBytes, this.#durable);
    for (const [sector, versions] of before.#volatile) {
      const survivor =
        versions[
          choose(
            sector,
            versions.map(({ write }) => write),
          ) - 1
        ];
      if (survivor !== undefined) after.#durable.set(sector, survivor.bytes);
    }
    return after;
  }

  /** A copy of the durable content. */
  durableImage(): Uint8Array {
    const image = this.#base.slice();
    for (const [sector, bytes] of this.#durable) image.set(bytes, sector * this.sectorBytes);
    return image;
  }

  /** Numbers of the sectors that a range touches. */
  sectorsOf(offsetBytes: number, lengthBytes: number): number[] {
    if (lengthBytes === 0) return [];
    const first = Math.floor(offsetBytes / this.sectorBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / this.sectorBytes);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  #newest(sector: number): Uint8Array {
    const start = sector * this.sectorBytes;
    return (
      this.#volatile.get(sector)?.at(-1)?.bytes ??
      this.#durable.get(sector) ??
      this.#base.subarray(start, start + this.sectorBytes)
    );
  }
}
