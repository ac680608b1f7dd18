/**
 * What a new image is filled from, as often as it is asked for: a directory, a tar file, or a tar
 * stream of standard input, which is kept in a file until the image is made.
 */
import { once } from "node:events";
import { createWriteStream, rmSync, statSync } from "node:fs";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { tarEntries } from "../tree/tar-source.ts";
import type { OnTreeError, TreeSource } from "../tree/tree-entry.ts";
import { bytesOf } from "./archive.ts";
import type { CommandContext } from "./command.ts";
import { hostEntries } from "./host-source.ts";

/** See the head of the file. */
export class MakeSource implements AsyncDisposable {
  readonly #path: string;
  readonly #context: CommandContext;
  readonly #isDirectory: boolean;
  readonly #spool: string | undefined;
  #isStreamUsed = false;

  private constructor(path: string, context: CommandContext, spool: string | undefined) {
    this.#path = path;
    this.#context = context;
    this.#spool = spool;
    this.#isDirectory = path !== "-" && isDirectory(path);
  }

  /** `isRepeated` says that it will be asked more than once; `near` is where a copy may be kept. */
  static async open(
    path: string,
    context: CommandContext,
    near: string,
    isRepeated: boolean,
  ): Promise<MakeSource> {
    if (path !== "-" || !isRepeated) return new MakeSource(path, context, undefined);
    const spool = `${near}.quire-tar-${process.pid}`;
    const source = new MakeSource(path, context, spool);
    try {
      const out = createWriteStream(spool, { flags: "wx" });
      for await (const piece of bytesOf(path, context)) {
        if (!out.write(piece)) await once(out, "drain");
      }
      out.end();
      await once(out, "close");
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw error;
    }
    return source;
  }

  /** The entries, from the first on, without the files `except`, which are being made of them. */
  entries(onError: OnTreeError, withXattrs: boolean, except: readonly string[]): TreeSource {
    const { signal } = this.#context;
    if (this.#isDirectory) {
      return hostEntries(this.#path, { signal, onError, xattrs: withXattrs, except });
    }
    if (this.#spool === undefined && this.#path === "-") {
      if (this.#isStreamUsed) throw new FsError("ESPIPE", { syscall: "read", path: "-" });
      this.#isStreamUsed = true;
    }
    return tarEntries(bytesOf(this.#spool ?? this.#path, this.#context), { signal, onError });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#spool !== undefined) rmSync(this.#spool, { force: true });
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    if (!hasErrnoCode(cause)) throw cause;
    throw new FsError(cause.code, { syscall: "stat", path });
  }
}
