/**
 * Blocks or inodes that are free, but not yet to be had: what was freed may be used again only when
 * the transaction that freed it cannot be lost, or a crash could bring the old owner back.
 *
 *     stored   1 1 0 0 1 0        the bitmap block: what will be on disk
 *     busy     1 1 1 0 1 0        what is searched: bit 2 was freed by a transaction under way
 *
 * A group has such a second bitmap only while something of it waits for a commit.
 *
 * After the freed-data lists of `fs/ext4/mballoc.c`.
 */
import { clearBits, setBits } from "./bitmap.ts";
import type { Handle } from "./handle.ts";

interface Overlay {
  readonly words: Uint32Array;
  pendingCount: number;
}

/** See the head of the file. */
export class BusyBits {
  readonly #overlays = new Map<number, Overlay>();
  readonly #onReleased: (group: number, from: number, count: number) => void;
  /** Bits of all groups that are free and wait. */
  pendingCount = 0;

  /** `onReleased` is told of bits that may be had again. */
  constructor(onReleased: (group: number, from: number, count: number) => void) {
    this.#onReleased = onReleased;
  }

  /** The bits of `group` to be searched, `stored` being those of its bitmap. Borrowed. */
  bitsOf(group: number, stored: Uint32Array): Uint32Array {
    return this.#overlays.get(group)?.words ?? stored;
  }

  /** Bits of `group` that wait. */
  pendingIn(group: number): number {
    return this.#overlays.get(group)?.pendingCount ?? 0;
  }

  /** Bits were set in the bitmap of `group`. */
  taken(handle: Handle, group: number, from: number, count: number): void {
    const overlay = this.#overlays.get(group);
    if (overlay === undefined) return;
    setBits(overlay.words, from, count);
    handle.undo(() => clearBits(overlay.words, from, count));
  }

  /** Bits of `group` are about to be cleared in `stored`, its bitmap. */
  freed(handle: Handle, group: number, stored: Uint32Array, from: number, count: number): void {
    const known = this.#overlays.get(group);
    const overlay = known ?? { words: stored.slice(), pendingCount: 0 };
    if (known === undefined) this.#overlays.set(group, overlay);
    this.#wait(group, overlay, count);
    handle.undo(() => this.#wait(group, overlay, -count));
    handle.onCommit(() => {
      clearBits(overlay.words, from, count);
      this.#wait(group, overlay, -count);
      this.#onReleased(group, from, count);
    });
  }

  #wait(group: number, overlay: Overlay, count: number): void {
    overlay.pendingCount += count;
    this.pendingCount += count;
    if (overlay.pendingCount === 0) this.#overlays.delete(group);
  }
}
