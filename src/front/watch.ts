/**
 * `watch` of `fs.promises`: what is changed through the volume, as an endless iteration.
 *
 * A directory tells of the names in it, a file of itself. Of what is below a directory it tells
 * nothing. Only our own changes exist: nobody else writes an image that is open.
 */
import type { WalkResult } from "../fs/namei.ts";
import { codedRangeError } from "./arguments.ts";
import type { Change, Changes } from "./changes.ts";
import { decode, type Encoding, optionsOf } from "./text.ts";

/** One event, as Node gives it. */
export interface WatchEvent {
  readonly eventType: "rename" | "change";
  readonly filename: string | Uint8Array;
}

export interface WatchOptions {
  encoding?: Encoding;
  signal?: AbortSignal | undefined;
  /** Of Node; a volume keeps no process alive. */
  readonly persistent?: boolean | undefined;
  /** Events that wait for the consumer, at most; 2048 by default. */
  readonly maxQueue?: number | undefined;
}

const QUEUE_MAX = 2048;

/** What is at `path` (`where` walks to it) until the signal is aborted or the loop is left. */
export async function* watchChanges(
  changes: Changes,
  where: () => WalkResult | Promise<WalkResult>,
  options?: WatchOptions,
): AsyncGenerator<WatchEvent, undefined> {
  const { encoding, signal, maxQueue } = optionsOf<WatchOptions>(options);
  signal?.throwIfAborted();
  const { inode, names } = await where();
  const isDirectory = inode.type === "directory";
  const own = names.at(-1);
  const queue: Change[] = [];
  let wake: () => void = () => {};
  let isOverflown = false;
  const stop = changes.on((change) => {
    if (isDirectory ? change.dirIno !== inode.ino : change.ino !== inode.ino) return;
    if (queue.length >= (maxQueue ?? QUEUE_MAX)) isOverflown = true;
    else queue.push(change);
    wake();
  });
  const onAbort = (): void => wake();
  signal?.addEventListener("abort", onAbort);
  try {
    for (;;) {
      signal?.throwIfAborted();
      const change = queue.shift();
      if (change !== undefined) {
        const name = isDirectory ? change.name : (own ?? change.name);
        yield { eventType: change.eventType, filename: decode(name, encoding, "text") };
      } else if (isOverflown) {
        throw codedRangeError("ERR_FS_WATCH_QUEUE_OVERFLOW", "fs.watch() queued more than it may");
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stop();
    signal?.removeEventListener("abort", onAbort);
  }
}
