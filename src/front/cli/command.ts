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
import { hasErrnoCode } from "../../lib/errno.ts";
import { openImage } from "../open-image.ts";
import type { Volume } from "../volume.ts";
import { printable, type Streams } from "./output.ts";

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_DAMAGED = 3;
export const EXIT_INTERRUPTED = 130;

/** The options that every command takes. */
export interface CommonOptions {
  readonly partition?: number;
  readonly cache?: string;
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

/** Adds the options of `CommonOptions`. */
export function withCommonOptions(command: Command): Command {
  return command
    .option("-p, --partition <number>", "partition to open, as the table counts", partitionNumber)
    .option("-c, --cache <size>", 'size of the page cache, such as "64MiB" (default 256MiB)')
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

function partitionNumber(text: string): number {
  return wholeNumber(text, "--partition");
}

function superblockOption(text: string | undefined): "backup" | "primary" | number | undefined {
  if (text === undefined || text === "backup" || text === "primary") return text;
  return wholeNumber(text, "--superblock");
}

/** Opens the image, says its warnings on stderr, runs `task`, and closes it whatever happens. */
export async function withVolume<T>(
  image: string,
  options: CommonOptions,
  context: CommandContext,
  task: (volume: Volume) => Promise<T>,
): Promise<T> {
  const volume = await openImage(image, {
    partition: options.partition,
    cache: options.cache,
    noload: options.noload,
    superblock: superblockOption(options.superblock),
    salvage: options.salvage,
    journal: options.journal,
    signal: context.signal,
  });
  try {
    for (const warning of volume.info().warnings) {
      context.stderr.write(`quire: warning: ${printable(warning)}\n`);
    }
    return await task(volume);
  } finally {
    await volume.close();
  }
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
  const text = error instanceof Error ? error.message : String(error);
  context.stderr.write(`quire: ${printable(text)}\n`);
  context.fail(exitCodeOf(error));
}
