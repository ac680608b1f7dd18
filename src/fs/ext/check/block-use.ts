/**
 * BlockUse: which clusters of an image something uses, one bit each, in pieces that exist only
 * where there is something to tell.
 *
 *     group 0 | bits |   group 1 | full |   group 2 | - |   group 3 | bits | ..
 *
 *  1. Memory is what the partly used groups need: one block each.
 */
const FULL: Uint8Array = new Uint8Array(0);

/** See the head of the file. */
export class BlockUse {
  readonly #clustersPerGroup: number;
  readonly #pieces = new Map<number, Uint8Array>();
  readonly #counts = new Map<number, number>();
  usedClusters = 0;

  constructor(clustersPerGroup: number) {
    this.#clustersPerGroup = clustersPerGroup;
  }

  /** Marks clusters `from` .. `to - 1`, and returns the first that was marked before, or -1. */
  mark(from: number, to: number): number {
    let again = -1;
    for (let at = from; at < to; ) {
      const group = Math.floor(at / this.#clustersPerGroup);
      const groupFirst = group * this.#clustersPerGroup;
      const end = Math.min(to, groupFirst + this.#clustersPerGroup);
      const met = this.#markInGroup(group, at - groupFirst, end - groupFirst);
      if (met >= 0 && again < 0) again = groupFirst + met;
      at = end;
    }
    return again;
  }

  #markInGroup(group: number, from: number, to: number): number {
    let piece = this.#pieces.get(group);
    if (piece === FULL) return from;
    if (piece === undefined) {
      piece = new Uint8Array(this.#clustersPerGroup / 8);
      this.#pieces.set(group, piece);
    }
    let again = -1;
    let added = 0;
    for (let bit = from; bit < to; bit++) {
      const mask = 1 << (bit & 7);
      const byte = piece[bit >>> 3]!;
      if ((byte & mask) === 0) {
        piece[bit >>> 3] = byte | mask;
        added++;
      } else if (again < 0) again = bit;
    }
    this.usedClusters += added;
    const count = (this.#counts.get(group) ?? 0) + added;
    this.#counts.set(group, count);
    if (count === this.#clustersPerGroup) this.#pieces.set(group, FULL);
    return again;
  }

  /** Marked clusters of `group`. */
  countOf(group: number): number {
    return this.#counts.get(group) ?? 0;
  }

  /** Byte `index` of the bits of `group`. */
  byteOf(group: number, index: number): number {
    const piece = this.#pieces.get(group);
    if (piece === undefined) return 0;
    return piece === FULL ? 0xff : piece[index]!;
  }
}
