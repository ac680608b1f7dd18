/**
 * Plug: bios held back while their submitter has more to come.
 *
 * A submitter that sleeps between two bios would otherwise see the first dispatched alone. It
 * opens a plug, hands it to `submitBio`, and flushes it at the end, before it waits for anything
 * that may depend on it (rule JS-4). As a net, the device flushes a plug that is still full when
 * the turn of the loop ends, so a forgotten one delays its bios and never loses them.
 *
 * After `struct blk_plug` in `block/blk-core.c` of Linux. Left out: merging inside the plug,
 * which the queue does as well, at the same moment.
 */
import type { Bio } from "./bio.ts";

/** The device's end of a plug: takes bios that were held back. */
export interface PlugTarget {
  queueBio(bio: Bio): void;
}

/** Bios that a plug holds at most; the next one flushes it. */
export const PLUG_MAX_BIOS = 256;

/** See the head of the file (`struct blk_plug`). */
export class Plug {
  #held: { target: PlugTarget; bio: Bio }[] = [];

  /** Number of bios held. */
  get length(): number {
    return this.#held.length;
  }

  /** Holds `bio` for `target` until the flush. Called by devices only. */
  add(target: PlugTarget, bio: Bio): void {
    if (this.#held.length === PLUG_MAX_BIOS) this.flush();
    this.#held.push({ target, bio });
  }

  /**
   * Gives all held bios to their devices, in order (`blk_flush_plug`). The plug may be used
   * again.
   */
  flush(): void {
    const held = this.#held;
    this.#held = [];
    for (const { target, bio } of held) target.queueBio(bio);
  }
}
