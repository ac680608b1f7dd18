/**
 * What was changed through a volume, for those who watch it (`fsnotify`): only our own changes, as
 * nobody else writes an image that is open.
 *
 *     create, unlink, rename    "rename" of a name in its directory
 *     write, truncate, chmod    "change" of the inode, told under the name that it was opened by
 */

/** One change. */
export interface Change {
  readonly eventType: "rename" | "change";
  /** Inode of the directory with the name. */
  readonly dirIno: number;
  readonly name: Uint8Array;
  /** The inode behind the name. */
  readonly ino: number;
  /** Of `NamePlace`. */
  readonly names: readonly Uint8Array[];
}

/** Where a name stands. */
export interface NamePlace {
  readonly dirIno: number;
  readonly name: Uint8Array;
  /** Names from the root to it, itself the last, when it was looked up. */
  readonly names: readonly Uint8Array[];
}

/** Tells listeners of changes; costs nothing while there are none. */
export class Changes {
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #enders = new Set<() => void>();

  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  /**
   * Calls `listener` for every change until the returned function is called, and `onEnd` when there
   * are no more.
   */
  on(listener: (change: Change) => void, onEnd: () => void = () => {}): () => void {
    this.#listeners.add(listener);
    this.#enders.add(onEnd);
    return () => {
      this.#listeners.delete(listener);
      this.#enders.delete(onEnd);
    };
  }

  /** There will be no more changes: the volume is closed. */
  end(): void {
    for (const end of [...this.#enders]) end();
  }

  /** A name has come or gone. */
  renamed(place: NamePlace, ino: number): void {
    this.#emit("rename", place, ino);
  }

  /** The inode behind a name has other content or attributes. */
  changed(place: NamePlace | undefined, ino: number): void {
    if (place !== undefined) this.#emit("change", place, ino);
  }

  #emit(eventType: Change["eventType"], place: NamePlace, ino: number): void {
    if (!this.isWatched) return;
    const change: Change = { eventType, ...place, ino };
    for (const listener of [...this.#listeners]) listener(change);
  }
}
