/** `quire trim` and `quire tune`: what concerns the file system as a whole. */
import { spawnSync } from "node:child_process";
import { lstatSync } from "node:fs";
import { tuneExt } from "../../fs/ext/tune.ts";
import type { ByteRange } from "../../fs/vfs-write.ts";
import { realClock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { KIB } from "../../lib/units.ts";
import { storeOf } from "../open-image.ts";
import { formatSize } from "../size-text.ts";
import type { Volume } from "../volume.ts";
import { type WriteOptions, withChanges } from "./changes.ts";
import { withDevice } from "./check.ts";
import { type CommandContext, placed, UsageError } from "./command.ts";
import { uuidOption } from "./make-options.ts";
import { printable, printJson, tellAll } from "./output.ts";

/** Options of `tune`. */
export interface TuneOptions extends WriteOptions {
  readonly label?: string;
  readonly uuid?: string;
}

const PROGRAM = "fallocate";
/** Shorter free stretches are not worth a call. */
const RANGE_BYTES_MIN = 64 * KIB;

/** The free stretches of the file system, in bytes from the start of the image. */
async function freeRanges(volume: Volume): Promise<ByteRange[]> {
  const { blockCount, blockBytes } = volume.fileSystem.usage();
  const base = volume.partition?.offsetBytes ?? 0;
  const free: ByteRange[] = [];
  let at = base;
  const add = (end: number): void => {
    const lengthBytes = end - at;
    if (lengthBytes >= RANGE_BYTES_MIN) free.push({ offsetBytes: at, lengthBytes });
  };
  for await (const { offsetBytes, lengthBytes } of volume.usedRanges()) {
    add(offsetBytes);
    at = offsetBytes + lengthBytes;
  }
  add(base + blockCount * blockBytes);
  return free;
}

/** Gives the blocks of `range` back to the file system that the image lies in. */
function punch(image: string, { offsetBytes, lengthBytes }: ByteRange): void {
  const place = ["-o", String(offsetBytes), "-l", String(lengthBytes)];
  const done = spawnSync(PROGRAM, ["--punch-hole", "--keep-size", ...place, "--", image], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const where = { syscall: "fallocate", path: image };
  if (done.error !== undefined) {
    throw new FsError("ENOENT", { ...where, detail: "the program fallocate is needed for this" });
  }
  if (done.status === 0) return;
  throw new FsError("EOPNOTSUPP", { ...where, detail: done.stderr.toString().trim() });
}

/**
 * `quire trim IMAGE`: the space of free blocks goes back to where the image lies. Node has no call
 * for that, so `fallocate` makes the holes; meanwhile the file system is frozen.
 */
export async function runTrim(
  image: string,
  options: WriteOptions,
  context: CommandContext,
): Promise<void> {
  if (!lstatSync(image).isFile()) {
    throw new FsError("EINVAL", { syscall: "trim", path: image, detail: "it is no regular file" });
  }
  let totalBytes = 0;
  await withChanges(image, options, context, async (changes) => {
    const { volume } = changes;
    if (!changes.isDryRun) await volume.freeze();
    try {
      for (const range of await freeRanges(volume)) {
        const text = `free ${range.lengthBytes} bytes at ${range.offsetBytes}`;
        await changes.step(text, async () => punch(image, range));
        totalBytes += range.lengthBytes;
      }
    } finally {
      if (!changes.isDryRun) await volume.thaw();
    }
    changes.tell("bytes", totalBytes);
  });
  const isText = options.json !== true && options.dryRun !== true;
  if (isText) await tellAll(context, `${formatSize(totalBytes)} of free blocks are holes now\n`);
}

/** `quire tune IMAGE --label TEXT --uuid UUID`. */
export async function runTune(
  image: string,
  options: TuneOptions,
  context: CommandContext,
): Promise<void> {
  const { label, uuid } = options;
  if (label === undefined && uuid === undefined) {
    throw new UsageError("tune needs --label or --uuid");
  }
  const random = Random.ofPlatform();
  const bytes = uuid === undefined ? undefined : uuidOption(uuid, realClock, random);
  const lines = tuneLines(options, bytes);
  if (options.dryRun === true) {
    await withChanges(image, options, context, async (changes) => {
      for (const line of lines) await changes.note(line);
    });
    return;
  }
  // Opened and closed once: then nobody else has it, and its journal is empty.
  const quiet = { ...options, json: false, verbose: false };
  await withChanges(image, quiet, context, async () => {});
  const store = await storeOf(image, true);
  const change = { label, uuid: bytes };
  const tuned = withDevice(store, options.partition, (device) => tuneExt(device, change));
  await placed("tune", image, tuned);
  if (options.json === true) {
    printJson(context.stdout, { dryRun: false, done: lines.length, failed: 0 });
  } else if (options.verbose === true) await tellAll(context, `${lines.join("\n")}\n`);
}

function tuneLines({ label, uuid }: TuneOptions, bytes: Uint8Array | undefined): string[] {
  const lines: string[] = [];
  if (label !== undefined) lines.push(`set the label to "${printable(label)}"`);
  if (bytes !== undefined) {
    const isDrawn = uuid === "random" || uuid === "time";
    lines.push(`set the UUID to ${isDrawn ? `a new one, by ${uuid}` : uuidText(bytes)}`);
  }
  return lines;
}

/** "12345678-1234-1234-1234-123456789abc". */
function uuidText(bytes: Uint8Array): string {
  const digits = Buffer.from(bytes).toString("hex");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
