/**
 * What all commands that change an image share: opening it for nobody else, `--dry-run`, and what
 * is told at the end.
 *
 *     open, exclusively --> steps, one after the other --> sync --> close --> "done"
 *     --dry-run: open for reading --> steps are printed and not done
 *
 *  1. Nobody is told that something is done before it is on disk.
 *  2. A step that fails is reported; what was done before it stays, and is written down.
 */
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { openImage } from "../open-image.ts";
import type { Volume } from "../volume.ts";
import {
  type CommandContext,
  type CommonOptions,
  EXIT_FAILED,
  openOptions,
  placed,
  report,
  sayWarnings,
} from "./command.ts";
import { printJson, tellAll } from "./output.ts";

/** The options of every command that writes. */
export interface WriteOptions extends CommonOptions {
  readonly dryRun?: boolean;
  readonly verbose?: boolean;
}

/** Errors after which there is no point in going on with other files. */
const FATAL: readonly string[] = ["ENOSPC", "EROFS", "EIO", "EUCLEAN", "EBADMSG", "EDQUOT"];

/** The steps of one command. */
export class Changes {
  readonly volume: Volume;
  readonly context: CommandContext;
  readonly isDryRun: boolean;
  readonly #isVerbose: boolean;
  readonly #isJson: boolean;
  readonly #planned: string[] = [];
  readonly #summary = new Map<string, unknown>();
  doneCount = 0;
  failedCount = 0;

  constructor(volume: Volume, options: WriteOptions, context: CommandContext) {
    this.volume = volume;
    this.context = context;
    this.isDryRun = options.dryRun === true;
    this.#isVerbose = options.verbose === true;
    this.#isJson = options.json === true;
  }

  /** Does `task`, or says what it would do: `text`, as "remove /etc/motd". */
  async step(text: string, task: () => Promise<void>): Promise<void> {
    this.context.signal.throwIfAborted();
    if (!this.isDryRun) await task();
    await this.note(text);
  }

  /** Notes a step that is done, or would be; a function is asked for its text where it is told. */
  async note(text: string | (() => string)): Promise<void> {
    this.doneCount++;
    const isTold = this.isDryRun || (this.#isVerbose && !this.#isJson);
    if (!isTold) return;
    const line = typeof text === "string" ? text : text();
    if (this.#isJson) this.#planned.push(line);
    else await tellAll(this.context, `${line}\n`);
  }

  /**
   * Does `task` for one of several paths: an error that concerns only that is reported, and the
   * next one is done.
   */
  async attempt(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.failed(error);
    }
  }

  /** Reports an error that concerns one file; throws it if there is no point in going on. */
  failed(error: unknown): void {
    this.context.signal.throwIfAborted();
    if (!hasErrnoCode(error) && !isPlainFailure(error)) throw error;
    if (hasErrnoCode(error) && FATAL.includes(error.code)) throw error;
    this.failedCount++;
    report(error, this.context);
  }

  /** Adds a field to what `--json` prints. */
  tell(name: string, value: unknown): void {
    this.#summary.set(name, value);
  }

  /** Prints the summary; what was done is on disk now. */
  finish(): void {
    if (!this.#isJson) return;
    const counts = { dryRun: this.isDryRun, done: this.doneCount, failed: this.failedCount };
    const planned = this.isDryRun ? { actions: this.#planned } : {};
    printJson(this.context.stdout, { ...counts, ...planned, ...Object.fromEntries(this.#summary) });
  }
}

/** An error of Node's kind that is about one path, as `rm` of a directory throws it. */
function isPlainFailure(error: unknown): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_FS_");
}

/**
 * Opens the image, for writing unless it is a dry run, runs `task`, writes all down and closes it.
 * If `task` fails, what it had done is kept and told of.
 */
export async function withChanges(
  image: string,
  options: WriteOptions,
  context: CommandContext,
  task: (changes: Changes) => Promise<void>,
): Promise<void> {
  const isWritable = options.dryRun !== true;
  if (isWritable) context.mustFinish?.();
  const opening = openImage(image, {
    ...openOptions(options, context.signal),
    writable: isWritable,
  });
  const volume = await placed("open", image, opening);
  const changes = new Changes(volume, options, context);
  try {
    sayWarnings(volume.info().warnings, context);
    await task(changes);
    if (isWritable) await volume.sync();
  } catch (error) {
    await closeAfter(error, changes, context);
    throw error;
  }
  await volume.close();
  changes.finish();
  if (changes.failedCount > 0) context.fail(EXIT_FAILED);
}

/** Writes down what was done before `error`, and says what that was. */
async function closeAfter(
  error: unknown,
  changes: Changes,
  context: CommandContext,
): Promise<void> {
  try {
    await changes.volume.close();
  } catch (closing) {
    if (closing !== error) report(closing, context);
    return;
  }
  if (changes.isDryRun || changes.doneCount === 0) return;
  const what = changes.doneCount === 1 ? "1 change was" : `${changes.doneCount} changes were`;
  context.stderr.write(`quire: ${what} made and written before this:\n`);
  changes.finish();
}

/** An error of a command about a path of the image. */
export function refusal(
  code: ConstructorParameters<typeof FsError>[0],
  syscall: string,
  path: string,
  detail?: string,
): FsError {
  return new FsError(code, { syscall, path, detail });
}
