/** `quire import` and `quire export`: trees of an image as tar streams. */
import { closeSync, createReadStream, openSync, statSync, writeSync } from "node:fs";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { lastNameOf } from "../last-name.ts";
import { TarSink } from "../tree/tar-sink.ts";
import { tarEntries } from "../tree/tar-source.ts";
import type { TreeSource } from "../tree/tree-entry.ts";
import { withOwners } from "../tree/tree-owners.ts";
import { volumeEntries } from "../tree/volume-source.ts";
import { type WriteOptions, withChanges } from "./changes.ts";
import {
  type CommandContext,
  type CommonOptions,
  EXIT_FAILED,
  report,
  UsageError,
  withVolume,
} from "./command.ts";
import { Progress, printJson, writeAll } from "./output.ts";
import { type OwnerOptions, ownerChoice } from "./owner-option.ts";
import { placeOf, writeTree } from "./put.ts";

/** Options of `import`. */
export interface ImportOptions extends WriteOptions, OwnerOptions {
  readonly at?: string;
}

/** Options of `export`. */
export interface ExportOptions extends CommonOptions {
  readonly output?: string;
}

/** The bytes of a file, or of standard input for `-`. */
export async function* bytesOf(path: string, context: CommandContext): AsyncGenerator<Uint8Array> {
  if (path !== "-") {
    try {
      yield* createReadStream(path, { signal: context.signal });
    } catch (cause) {
      if (!hasErrnoCode(cause)) throw cause;
      throw new FsError(cause.code, { syscall: "open", path });
    }
    return;
  }
  if (context.stdin === undefined) throw new UsageError("there is no standard input to read");
  for await (const piece of context.stdin) {
    context.signal.throwIfAborted();
    yield typeof piece === "string" ? new TextEncoder().encode(piece) : (piece as Uint8Array);
  }
}

/** `quire import IMAGE TAR|-`. */
export async function runImport(
  image: string,
  tar: string,
  options: ImportOptions,
  context: CommandContext,
): Promise<void> {
  const progress = new Progress("imported", context);
  try {
    await withChanges(image, options, context, async (changes) => {
      const place = await placeOf(changes, options.at ?? "/", undefined, false);
      const entries = tarEntries(bytesOf(tar, context), {
        signal: context.signal,
        onError: (_path, error) => changes.failed(error),
      });
      await writeTree(changes, withOwners(entries, ownerChoice(options)), place, progress);
      changes.tell("files", progress.files);
      changes.tell("bytes", progress.bytes);
    });
  } finally {
    progress.done();
  }
}

/** `quire export IMAGE [PATH] [-o TAR]`. */
export async function runExport(
  image: string,
  path: string,
  options: ExportOptions,
  context: CommandContext,
): Promise<void> {
  const output = options.output === "-" ? undefined : options.output;
  if (output === undefined && options.json === true) {
    throw new UsageError("--json needs -o TAR: the stream goes to standard output");
  }
  const progress = new Progress("exported", context);
  try {
    await withVolume(image, options, context, async (volume) => {
      const start = await volume.fs.inode(path, { followLinks: true });
      const { signal } = context;
      const onError = (_path: Uint8Array, error: unknown): void => report(error, context);
      const entries = volumeEntries(volume.fileSystem, start, { signal, onError });
      const name = lastNameOf(new TextEncoder().encode(path)).name;
      const fd = output === undefined ? undefined : openOutput(output, image);
      try {
        await writeTar(entries, name, fd, context, progress);
      } finally {
        if (fd !== undefined) closeSync(fd);
      }
    });
    const { files, bytes } = progress;
    if (options.json === true) printJson(context.stdout, { path, output, files, bytes });
  } finally {
    progress.done();
  }
}

/** Opens `output` for writing, unless it is the image that is read. */
function openOutput(output: string, image: string): number {
  const [found, own] = [output, image].map((path) => statSync(path, { throwIfNoEntry: false }));
  if (found !== undefined && found.ino === own?.ino && found.dev === own.dev) {
    throw new FsError("EINVAL", {
      syscall: "export",
      path: output,
      detail: "it is the image itself",
    });
  }
  return openSync(output, "w");
}

async function writeTar(
  entries: TreeSource,
  rootName: Uint8Array,
  fd: number | undefined,
  context: CommandContext,
  progress: Progress,
): Promise<void> {
  const sink = new TarSink(async (bytes) => {
    progress.add(0, bytes.length);
    // A stream keeps what it is given until it has gone out.
    if (fd === undefined) await writeAll(context, bytes.slice());
    else for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  });
  for await (const entry of entries) {
    const isLoneFile = entry.path.length === 0 && entry.type !== "directory";
    try {
      await sink.add(isLoneFile ? { ...entry, path: rootName } : entry);
      progress.add(1, 0);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== "EOPNOTSUPP") throw error;
      const shown = new TextDecoder().decode(entry.path);
      report(new FsError(error.code, { path: shown, detail: error.detail }), context);
      context.fail(EXIT_FAILED);
    }
  }
  await sink.finish();
}
