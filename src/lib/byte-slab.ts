/**
 * ByteSlab: many small byte arrays in few buffers.
 *
 * An `ArrayBuffer` of its own for each name or inode costs the garbage collector more than its
 * bytes do. Copies are cut from slabs instead, one after the other:
 *
 *     slab   [ name ][ inode ......... ][ name ][ ..free.. ]
 *
 * A slab is given back when none of its copies is held any more, so what is kept for long may
 * keep its neighbours' bytes too: at most a slab for each copy.
 */
import { KIB } from "./units.ts";

const SLAB_BYTES = 16 * KIB;

export class ByteSlab {
  #slab: Uint8Array = new Uint8Array(0);
  #used = 0;

  /** A copy of `bytes`, which the caller owns. */
  copy(bytes: Uint8Array): Uint8Array {
    const { length } = bytes;
    if (length > SLAB_BYTES / 4) return bytes.slice();
    if (this.#used + length > this.#slab.length) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#used = 0;
    }
    const copy = this.#slab.subarray(this.#used, this.#used + length);
    copy.set(bytes);
    this.#used += length;
    return copy;
  }
}
