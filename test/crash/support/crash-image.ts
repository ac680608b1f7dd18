/**
 * An image that thousands of power cuts are tried on: what one of them has changed is taken back,
 * so a state costs what it changes and never a copy of the image.
 *
 *     const before = image.mark();
 *     image.put(offsetBytes, bytes);         // what the power cut has left of the writes
 *     await recover(new CrashStore(image));  // what recovery does about it
 *     image.digest(journal);                 // the same for two states that are the same now
 *     image.rollback(before);
 */
import { createHash } from "node:crypto";
import { SECTOR_BYTES } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import type { StoreWriteOptions } from "../../../src/store/store.ts";

interface Replaced {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** A sector that differs from the image as it was. */
export interface ChangedSector {
  readonly sector: number;
  readonly bytes: Uint8Array;
}

/** See the head of the file. */
export class CrashImage {
  /** The image as it was, which stays so. */
  readonly base: Uint8Array;
  /** The image as it is. Changed by `put` alone. */
  readonly bytes: Uint8Array;
  readonly #replaced: Replaced[] = [];
  readonly #touched = new Set<number>();

  constructor(base: Uint8Array) {
    this.base = base;
    this.bytes = base.slice();
  }

  put(offsetBytes: number, bytes: Uint8Array): void {
    const old = this.bytes.slice(offsetBytes, offsetBytes + bytes.length);
    this.#replaced.push({ offsetBytes, bytes: old });
    this.bytes.set(bytes, offsetBytes);
    const end = Math.ceil((offsetBytes + bytes.length) / SECTOR_BYTES);
    for (let at = Math.floor(offsetBytes / SECTOR_BYTES); at < end; at++) this.#touched.add(at);
  }

  /** The image as it is now, for `rollback`. */
  mark(): number {
    return this.#replaced.length;
  }

  /** Takes back what came after `mark`. */
  rollback(mark: number): void {
    while (this.#replaced.length > mark) {
      const { offsetBytes, bytes } = this.#replaced.pop()!;
      this.bytes.set(bytes, offsetBytes);
    }
    if (mark === 0) this.#touched.clear();
  }

  /** The sectors that differ from the image as it was, in order. */
  changed(): ChangedSector[] {
    const sectors: ChangedSector[] = [];
    for (const sector of [...this.#touched].sort((a, b) => a - b)) {
      const at = sector * SECTOR_BYTES;
      const bytes = this.bytes.subarray(at, at + SECTOR_BYTES);
      if (Buffer.compare(bytes, this.base.subarray(at, at + SECTOR_BYTES)) === 0) continue;
      sectors.push({ sector, bytes });
    }
    return sectors;
  }

  /** A name for the content of all sectors but those of `ignored`. */
  digest(ignored: ReadonlySet<number>): string {
    const hash = createHash("sha1");
    for (const { sector, bytes } of this.changed()) {
      if (!ignored.has(sector)) hash.update(`${sector} `).update(bytes);
    }
    return hash.digest("base64");
  }
}

/** The image as a store: what is written can be taken back there. */
export class CrashStore extends MemoryStore {
  readonly #image: CrashImage;

  constructor(image: CrashImage) {
    super(image.bytes, { name: "crash" });
    this.#image = image;
  }

  override async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    _options?: StoreWriteOptions,
  ): Promise<void> {
    let at = offsetBytes;
    for (const bytes of from instanceof Uint8Array ? [from] : from) {
      this.#image.put(at, bytes);
      at += bytes.length;
    }
  }

  override async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#image.put(offsetBytes, new Uint8Array(lengthBytes));
  }
}
