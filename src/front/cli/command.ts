/**
 * What all commands share: opening the image, the common options, exit codes, and errors as
 * sentences.
 *
 *     exit 0  done
 *          1  failed: a file is missing, the store cannot be read, something was left out
 *          2  wrong arguments
 *          3  the image is damaged (EUCLEAN, EBADMSG)
 *        130  interrupted
 */
import type { Command } from "commander";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { type DiskInfo, inspectDisk } from "../disk.ts";
import { CACHE_BYTES_MIN } from "../make-cache.ts";
import { type OpenImageOptions, openImage, storeOf } from "../open-image.ts";
import { formatSize, parseSize } from "../size-text.ts";
import type { Volume } from "../volume.ts";
import { plainLine, printable, type Streams } from "./output.ts";

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_DAMAGED = 3;
export const EXIT_INTERRUPTED = 130;

/** The options that every command takes. */
export interface CommonOptions {
  readonly partition?: number;
  readonly cache?: number;
  readonly json?: boolean;
  readonly noload?: boolean;
  readonly superblock?: string;
  readonly salvage?: boolean;
  readonly journal?: string;
}

/** What the program gives to a command's action. */
export interface CommandContext extends Streams {
  readonly signal: AbortSignal;
  /** Raises the exit code of the run; the highest one stays. */
  fail(exitCode: number): void;
}

/** A mistake in the arguments that only the command itself can see. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/**
 * Adds the options of `CommonOptions`; without letters where the command has its own use for these.
 */
export function withCommonOptions(command: Command, hasLetters = true): Command {
  const [p, c] = hasLetters ? ["-p, ", "-c, "] : ["", ""];
  return command
    .option(`${p}--partition <number>`, "partition to open, as the table counts", partitionNumber)
    .option(
      `${c}--cache <size>`,
      'size of the page cache, such as "64MiB" (default 256MiB, 32MiB for get)',
      cacheSize,
    )
    .option("--json", "print JSON")
    .option("--noload", "do not replay the journal: show the image as it lies")
    .option("--superblock <which>", '"backup", or the block that holds a superblock')
    .option("--salvage", "read what can be read of a damaged journal")
    .option("--journal <image>", "device of an external journal");
}

/** A whole number from 0 on, as an option of `name`. */
export function wholeNumber(text: string, name: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new UsageError(`${name} must be a whole number, not "${printable(text)}"`);
  }
  return value;
}

/** A size in bytes, as an option of `name`. */
export function sizeOption(text: string, name: string): number {
  try {
    return parseSize(text, name);
  } catch {
    throw new UsageError(`${name} must be a size such as "64MiB", not "${printable(text)}"`);
  }
}

function cacheSize(text: string): number {
  const size = sizeOption(text, "--cache");
  if (size >= CACHE_BYTES_MIN) return size;
  const least = formatSize(CACHE_BYTES_MIN);
  throw new UsageError(`--cache must be at least ${least}, not ${formatSize(size)}`);
}

function partitionNumber(text: string): number {
  return wholeNumber(text, "--partition");
}

function superblockOption(text: string | undefined): "backup" | "primary" | number | undefined {
  if (text === undefined || text === "backup" || text === "primary") return text;
  return wholeNumber(text, "--superblock");
}

/** The common options as `openImage` takes them. */
export function openOptions(options: CommonOptions, signal: AbortSignal): OpenImageOptions {
  return {
    partition: options.partition,
    cache: options.cache,
    noload: options.noload,
    superblock: superblockOption(options.superblock),
    salvage: options.salvage,
    journal: options.journal,
    signal,
  };
}

/** Says on stderr what the user must know of the image. */
export function sayWarnings(warnings: readonly string[], context: CommandContext): void {
  for (const warning of warnings) {
    context.stderr.write(`quire: warning: ${plainLine(warning)}\n`);
  }
}

/** Opens the image, says its warnings on stderr, runs `task`, and closes it whatever happens. */
export async function withVolume<T>(
  image: string,
  options: CommonOptions,
  context: CommandContext,
  task: (volume: Volume) => Promise<T>,
): Promise<T> {
  const opening = openImage(image, openOptions(options, context.signal));
  const volume = await placed("open", image, opening);
  try {
    sayWarnings(volume.info().warnings, context);
    return await task(volume);
  } finally {
    await volume.close();
  }
}

/**
 * As `withVolume`, for commands that describe: of a disk with several file systems, or none, and no
 * choice among its partitions, `describe` gets what the disk is.
 */
export async function withVolumeOrDisk(
  image: string,
  options: CommonOptions,
  context: CommandContext,
  task: (volume: Volume) => Promise<void>,
  describe: (disk: DiskInfo) => Promise<void>,
): Promise<void> {
  if (options.partition === undefined) {
    const disk = await inspectDisk(await storeOf(image));
    const isOpen = disk.isExt || disk.partitions.length === 0 || disk.extPartitions.length === 1;
    if (!isOpen) {
      sayWarnings(disk.warnings, context);
      await describe(disk);
      return;
    }
  }
  await withVolume(image, options, context, task);
}

/** The exit code for an error that ends a command. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT_USAGE;
  if (error instanceof Error && error.name === "AbortError") return EXIT_INTERRUPTED;
  if (hasErrnoCode(error) && (error.code === "EUCLEAN" || error.code === "EBADMSG")) {
    return EXIT_DAMAGED;
  }
  return EXIT_FAILED;
}

/** Prints an error as a sentence and raises the exit code. */
export function report(error: unknown, context: CommandContext): void {
  context.stderr.write(`quire: ${plainLine(sentenceOf(error, context.signal))}\n`);
  context.fail(context.signal.aborted ? EXIT_INTERRUPTED : exitCodeOf(error));
}

/** Does `task` for one path of several: its error is reported and the next one is done. */
export async function attempt(context: CommandContext, task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (error) {
    context.signal.throwIfAborted();
    report(error, context);
  }
}

/** `task`; an error of it that names no path names `path`. */
export async function placed<T>(syscall: string, path: string, task: T): Promise<Awaited<T>> {
  try {
    return await task;
  } catch (error) {
    if (!(error instanceof FsError) || error.path !== undefined) throw error;
    const { code, detail, cause } = error;
    throw new FsError(code, { syscall: error.syscall ?? syscall, path, detail, cause });
  }
}

/** The message, with that of the store's own error behind it where there is one. */
function sentenceOf(error: unknown, signal: AbortSignal): string {
  if (signal.aborted) return "interrupted";
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  const isNews = cause instanceof Error && !error.message.includes(cause.message);
  return isNews ? `${error.message} (${cause.message})` : error.message;
}
