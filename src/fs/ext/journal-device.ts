/**
 * JournalOverlayDevice: a device as it would be after recovery, without a byte of it changed.
 *
 *     read       [ home 7 | home 8 | home 9 | home 10 ]
 *                    |        |        |         |
 *     goes to     device   log 31   log 32    device           8 and 9 have copies in the log
 *
 * The log's copies are not held in memory: a table says where each lies, and a read of its home
 * block is sent there. What lies side by side goes as one bio, and a read that touches no replayed
 * block is handed on as it is.
 *
 *  1. Writes, discards and write-zeroes end with `-EROFS`; the devices below get reads only.
 *  2. The first word of an escaped copy is put back after the read, also when only part of it was
 *     asked for.
 *  3. The superblock's bytes are those given to `patchSuperblock`, wherever they lie in a read.
 *  4. Reads of the journal's own blocks are not redirected.
 *
 * Left out: writing home, which is recovery.
 */
import {
  Bio,
  endBio,
  REQ_OP_DISCARD,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
} from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { DeviceOver } from "../../block/device-over.ts";
import type { Plug } from "../../block/plug.ts";
import { assert } from "../../lib/assert.ts";
import { putBe32 } from "../../lib/bytes.ts";
import type { Clock } from "../../lib/clock.ts";
import { EROFS } from "../../lib/errno.ts";
import { JBD2_MAGIC } from "./jbd2-format.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";

const WORD_BYTES = 4;
const MAGIC: Uint8Array = new Uint8Array(WORD_BYTES);
putBe32(MAGIC, 0, JBD2_MAGIC);

/** A home block whose bytes lie in the log. */
export interface ReplayedBlock {
  readonly home: number;
  /** Block of the journal's device that holds its copy. */
  readonly copy: number;
  readonly isEscaped: boolean;
}

/** Replayed blocks in order of their home, in flat arrays: 17 bytes each. */
class ReplayTable {
  readonly homes: Float64Array;
  readonly copies: Float64Array;
  readonly escaped: Uint8Array;

  constructor(blocks: readonly ReplayedBlock[]) {
    const sorted = blocks.slice().sort((a, b) => a.home - b.home);
    this.homes = Float64Array.from(sorted, (block) => block.home);
    this.copies = Float64Array.from(sorted, (block) => block.copy);
    this.escaped = Uint8Array.from(sorted, (block) => (block.isEscaped ? 1 : 0));
  }

  /** Index of the first replayed block from `home` on. */
  from(home: number): number {
    let low = 0;
    let high = this.homes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.homes[middle]! < home) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Bytes to be laid over what was read at `offsetBytes`. */
interface Patch {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** Part of a read that goes to one place in one piece. */
interface Segment {
  readonly isFromLog: boolean;
  /** On the home device. */
  readonly fromBytes: number;
  endBytes: number;
  /** On the device that it is read from. */
  readonly sourceBytes: number;
}

/** How an overlay is to be made. */
export interface JournalOverlayOptions {
  readonly blockBytes: number;
  /** Where the copies lie: the device itself, or an external journal. */
  readonly journalDevice: BlockDevice;
  readonly clock: Clock;
}

/** See the head of the file. */
export class JournalOverlayDevice extends DeviceOver {
  /** Home blocks that are answered from the log. */
  readonly replayedCount: number;
  readonly #journal: BlockDevice;
  readonly #blockBytes: number;
  readonly #clock: Clock;
  readonly #table: ReplayTable;
  #superblock: Uint8Array | undefined = undefined;

  /** `blocks` name each home once. */
  constructor(base: BlockDevice, blocks: readonly ReplayedBlock[], options: JournalOverlayOptions) {
    super(base);
    this.#journal = options.journalDevice;
    this.#blockBytes = options.blockBytes;
    this.#clock = options.clock;
    this.#table = new ReplayTable(blocks);
    this.replayedCount = blocks.length;
  }

  override get isReadOnly(): boolean {
    return true;
  }

  /** From now on the superblock reads as `bytes` (copied). */
  patchSuperblock(bytes: Uint8Array): void {
    assert(bytes.length === SUPERBLOCK_BYTES, "a superblock has 1024 bytes");
    this.#superblock = bytes.slice();
  }

  submitBio(bio: Bio, plug?: Plug): void {
    if (isChange(bio)) {
      this.#clock.microtask(() => endBio(bio, -EROFS, undefined, this.#clock));
      return;
    }
    // What is no read, or reaches past the end, is judged below as ever.
    const isRead = bio.op === REQ_OP_READ;
    if (!isRead || bio.offsetBytes < 0 || bio.endBytes > this.sizeBytes) {
      this.base.submitBio(bio, plug);
      return;
    }
    const segments = this.#segmentsOf(bio);
    const patches = this.#patchesOf(bio);
    const isPlain = segments.length === 1 && !segments[0]!.isFromLog && patches.length === 0;
    if (segments.length === 0 || isPlain) this.base.submitBio(bio, plug);
    else this.#submitParts(bio, segments, patches, plug);
  }

  /** Where the bytes of `bio` are to be read, in order and without gaps. */
  #segmentsOf(bio: Bio): Segment[] {
    const { homes, copies } = this.#table;
    const blockBytes = this.#blockBytes;
    const segments: Segment[] = [];
    const put = (isFromLog: boolean, fromBytes: number, endBytes: number, source: number): void => {
      const last = segments.at(-1);
      const joins =
        last !== undefined &&
        last.isFromLog === isFromLog &&
        last.sourceBytes + (last.endBytes - last.fromBytes) === source;
      if (joins) last.endBytes = endBytes;
      else segments.push({ isFromLog, fromBytes, endBytes, sourceBytes: source });
    };
    let at = bio.offsetBytes;
    let index = this.#table.from(Math.floor(at / blockBytes));
    for (; index < homes.length; index++) {
      const homeBytes = homes[index]! * blockBytes;
      if (homeBytes >= bio.endBytes) break;
      if (homeBytes > at) put(false, at, homeBytes, at);
      const from = Math.max(at, homeBytes);
      const end = Math.min(homeBytes + blockBytes, bio.endBytes);
      put(true, from, end, copies[index]! * blockBytes + (from - homeBytes));
      at = end;
    }
    if (at < bio.endBytes) put(false, at, bio.endBytes, at);
    return segments;
  }

  /** What is to be laid over the bytes of `bio` once they are there, in this order. */
  #patchesOf(bio: Bio): Patch[] {
    const { homes, escaped } = this.#table;
    const patches: Patch[] = [];
    let index = this.#table.from(Math.floor(bio.offsetBytes / this.#blockBytes));
    for (; index < homes.length; index++) {
      const offsetBytes = homes[index]! * this.#blockBytes;
      if (offsetBytes >= bio.endBytes) break;
      if (escaped[index] === 1) patches.push({ offsetBytes, bytes: MAGIC });
    }
    const bytes = this.#superblock;
    const superblockEnd = SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES;
    const touches = bio.offsetBytes < superblockEnd && bio.endBytes > SUPERBLOCK_OFFSET_BYTES;
    if (bytes !== undefined && touches) {
      patches.push({ offsetBytes: SUPERBLOCK_OFFSET_BYTES, bytes });
    }
    return patches;
  }

  #submitParts(
    bio: Bio,
    segments: readonly Segment[],
    patches: readonly Patch[],
    plug: Plug | undefined,
  ): void {
    let pending = segments.length;
    let failed: Bio | undefined;
    const endPart = (part: Bio): void => {
      if (part.status !== 0) failed ??= part;
      pending--;
      if (pending > 0) return;
      for (const patch of patches) layOver(bio, patch);
      endBio(bio, failed?.status ?? 0, failed?.cause, this.#clock);
    };
    let vector = 0;
    let used = 0; // Bytes of that vector which are given out.
    for (const segment of segments) {
      const part = new Bio(bio.op, bio.flags, segment.sourceBytes, endPart);
      let rest = segment.endBytes - segment.fromBytes;
      while (rest > 0) {
        const memory = bio.vectors[vector]!;
        const taken = Math.min(rest, memory.length - used);
        part.addVector(memory.subarray(used, used + taken));
        rest -= taken;
        used += taken;
        if (used < memory.length) continue;
        vector++;
        used = 0;
      }
      (segment.isFromLog ? this.#journal : this.base).submitBio(part, plug);
    }
  }
}

/** True if `bio` would change the device. */
function isChange({ op }: Bio): boolean {
  return op === REQ_OP_WRITE || op === REQ_OP_DISCARD || op === REQ_OP_WRITE_ZEROES;
}

/** Copies the part of `patch` that lies inside `bio` over the bytes that were read. */
function layOver(bio: Bio, patch: Patch): void {
  let vectorBytes = bio.offsetBytes;
  for (const memory of bio.vectors) {
    const from = Math.max(vectorBytes, patch.offsetBytes);
    const end = Math.min(vectorBytes + memory.length, patch.offsetBytes + patch.bytes.length);
    if (from < end) {
      const part = patch.bytes.subarray(from - patch.offsetBytes, end - patch.offsetBytes);
      memory.set(part, from - vectorBytes);
    }
    vectorBytes += memory.length;
  }
}
