/**
 * `watch` of `fs.promises`: what is changed through the volume, as an endless iteration.
 *
 * A directory tells of the names in it, with `recursive` of those below it too, each by its path
 * from there; a file tells of itself. Only our own changes exist: nobody else writes an image that
 * is open.
 */
import type { WalkResult } from "../fs/namei.ts";
import { equalBytes } from "../lib/bytes.ts";
import { checkInteger, checkSignal, codedRangeError } from "./arguments.ts";
import type { Change, Changes } from "./changes.ts";
import { joined } from "./last-name.ts";
import { checkFlag, checkOptions } from "./option-checks.ts";
import { checkEncoding, decode, type Encoding } from "./text.ts";

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
  /** What is below a directory too. */
  readonly recursive?: boolean | undefined;
  /** Events that wait for the consumer, at most; 2048 by default. */
  readonly maxQueue?: number | undefined;
}

const QUEUE_MAX = 2048;

/**
 * What is at `path` (`where` walks to it) until the signal is aborted, the loop is left, or the
 * volume is closed.
 */
export async function* watchChanges(
  changes: Changes,
  where: () => WalkResult | Promise<WalkResult>,
  options?: WatchOptions,
): AsyncGenerator<WatchEvent, undefined> {
  const given = checkOptions(options);
  const { encoding, signal, maxQueue = QUEUE_MAX } = given;
  for (const name of ["persistent", "recursive"]) checkFlag(given, name);
  checkEncoding(encoding);
  checkSignal(signal);
  checkInteger(maxQueue, "options.maxQueue", 1);
  signal?.throwIfAborted();
  const early: Change[] = []; // Of the time before it is known what is watched.
  let shownName: ((change: Change) => Uint8Array | undefined) | undefined;
  const queue: { eventType: Change["eventType"]; shown: Uint8Array }[] = [];
  let wake: () => void = () => {};
  let isOverflown = false;
  let isEnded = false;
  const onEnd = (): void => {
    isEnded = true;
    wake();
  };
  const take = (change: Change): void => {
    if (shownName === undefined) early.push(change);
    const shown = shownName?.(change);
    if (shown === undefined) return;
    if (queue.length >= maxQueue) isOverflown = true;
    else queue.push({ eventType: change.eventType, shown });
    wake();
  };
  const stop = changes.on(take, onEnd);
  const onAbort = (): void => wake();
  signal?.addEventListener("abort", onAbort);
  try {
    shownName = namesOf(await where(), given.recursive === true);
    for (const change of early) take(change);
    for (;;) {
      signal?.throwIfAborted();
      const change = queue.shift();
      if (change !== undefined) {
        yield { eventType: change.eventType, filename: decode(change.shown, encoding, "text") };
      } else if (isOverflown) {
        throw codedRangeError("ERR_FS_WATCH_QUEUE_OVERFLOW", "fs.watch() queued more than it may");
      } else if (isEnded) {
        return;
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

/** The name by which a change at `watched` is told; none for a change elsewhere. */
function namesOf(
  { inode, names }: WalkResult,
  isRecursive: boolean,
): (change: Change) => Uint8Array | undefined {
  const isDirectory = inode.type === "directory";
  const own = names.at(-1);
  return (change) => {
    if (!isDirectory) return change.ino === inode.ino ? (own ?? change.name) : undefined;
    if (change.dirIno === inode.ino) return change.name;
    return isRecursive ? pathBelow(names, change.names) : undefined;
  };
}

/** The path to `names` from the directory at `above`; undefined if it is not below that. */
function pathBelow(
  above: readonly Uint8Array[],
  names: readonly Uint8Array[],
): Uint8Array | undefined {
  if (names.length <= above.length) return undefined;
  if (!above.every((name, index) => equalBytes(name, names[index]!))) return undefined;
  const [first, ...rest] = names.slice(above.length);
  return rest.reduce(joined, first!);
}
