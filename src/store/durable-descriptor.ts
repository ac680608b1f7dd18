/**
 * DurableDescriptor: a second descriptor of a file that is open, whose writes are durable when they
 * return. Needs Node.
 *
 *     handle    write, write ..       durable after fdatasync, with all that came before
 *     durable   write (O_DSYNC)       durable by itself, and itself alone
 *
 * It is opened when it is first wanted, through `/proc`, so that it is the same file whatever has
 * become of its name; that is checked. Where there is no `/proc`, or the file may not be opened
 * again, there is none.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

/** See the head of the file. */
export class DurableDescriptor {
  readonly #handle: FileHandle;
  #opened: Promise<FileHandle | undefined> | undefined;

  /** `handle` is borrowed, and open for writing. */
  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** The number of the descriptor; undefined where there is none. */
  async fd(): Promise<number | undefined> {
    this.#opened ??= openAgain(this.#handle);
    return (await this.#opened)?.fd;
  }

  async close(): Promise<void> {
    const opened = await this.#opened;
    await opened?.close();
  }
}

async function openAgain(handle: FileHandle): Promise<FileHandle | undefined> {
  const { O_DSYNC, O_WRONLY, O_NONBLOCK } = constants;
  if (process.platform !== "linux" || O_DSYNC === undefined) return undefined;
  let again: FileHandle;
  try {
    again = await open(`/proc/self/fd/${handle.fd}`, O_WRONLY | O_DSYNC | O_NONBLOCK);
  } catch {
    return undefined; // Who asked does without.
  }
  const [own, other] = await Promise.all([
    handle.stat({ bigint: true }),
    again.stat({ bigint: true }),
  ]);
  if (own.dev === other.dev && own.ino === other.ino) return again;
  await again.close();
  return undefined;
}
