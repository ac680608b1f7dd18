/**
 * `quire resize IMAGE [SIZE]`: the file system grows to the size of its device, or to SIZE; an
 * image file grows first where that is more.
 */
import { statSync, truncateSync } from "node:fs";
import { readPartitions } from "../../block/partitions.ts";
import { type GrowResult, growExt, previewGrowth } from "../../fs/ext/resize.ts";
import { realClock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { makeCache } from "../make-cache.ts";
import { storeOf } from "../open-image.ts";
import { formatSize } from "../size-text.ts";
import type { WriteOptions } from "./changes.ts";
import { withDevice } from "./check.ts";
import { type CommandContext, placed, sayWarnings, sizeOption } from "./command.ts";
import { printJson, tellAll } from "./output.ts";

/** What is to be done, as far as it is known before the file grows. */
interface Plan extends GrowResult {
  readonly sizeBytes: number;
  /** The image file has to grow to `sizeBytes`. */
  readonly isFileShort: boolean;
}

/** Looks at the image without changing anything; nobody else may have it open for writing. */
async function planOf(
  image: string,
  wantedBytes: number | undefined,
  { partition, dryRun }: WriteOptions,
): Promise<Plan> {
  const store = await storeOf(image, dryRun !== true);
  const plan = withDevice(store, partition, async (device) => {
    const sizeBytes = wantedBytes ?? device.sizeBytes;
    const isFileShort = sizeBytes > device.sizeBytes;
    if (isFileShort) {
      const table = await readPartitions(device);
      const isPart = device.sizeBytes !== store.sizeBytes || table.partitions.length > 0;
      if (isPart || !statSync(image).isFile()) {
        const what = isPart ? "the partition" : "the device";
        const detail = `${what} has ${device.sizeBytes} bytes, not ${sizeBytes}`;
        throw new FsError("EINVAL", { syscall: "resize", path: image, detail });
      }
    }
    return { ...(await previewGrowth(device, sizeBytes)), sizeBytes, isFileShort };
  });
  return placed("resize", image, plan);
}

/** "grow the file system from 64.0 MiB to 1.0 GiB: .."; one line. */
function growthText(verb: string, result: GrowResult): string {
  const { blockBytes, oldBlockCount, blockCount, oldGroupCount, groupCount } = result;
  if (blockCount === oldBlockCount) {
    return `it has ${blockCount} blocks of ${blockBytes} bytes already: nothing to do\n`;
  }
  const sizes = [oldBlockCount, blockCount].map((count) => formatSize(count * blockBytes));
  const counts = `${oldBlockCount} to ${blockCount} blocks, ${oldGroupCount} to ${groupCount} groups`;
  return `${verb} the file system from ${sizes[0]} to ${sizes[1]}: ${counts}\n`;
}

/** `quire resize IMAGE [SIZE]`. */
export async function runResize(
  image: string,
  size: string | undefined,
  options: WriteOptions,
  context: CommandContext,
): Promise<void> {
  const wantedBytes = size === undefined ? undefined : sizeOption(size, "SIZE");
  const plan = await planOf(image, wantedBytes, options);
  const { sizeBytes, isFileShort, ...planned } = plan;
  const isDryRun = options.dryRun === true;
  let result: GrowResult = planned;
  if (!isDryRun) {
    context.signal.throwIfAborted();
    context.mustFinish?.();
    if (isFileShort) truncateSync(image, sizeBytes);
    result = await grow(image, sizeBytes, options, context);
  }
  if (options.json === true) {
    const grewFileTo = isFileShort ? { fileBytes: sizeBytes } : {};
    printJson(context.stdout, { dryRun: isDryRun, ...result, ...grewFileTo });
    return;
  }
  const isTold = isFileShort && (isDryRun || options.verbose === true);
  const file = isTold ? `make the image file ${formatSize(sizeBytes)} long\n` : "";
  await tellAll(context, file + growthText(isDryRun ? "grow" : "grew", result));
}

async function grow(
  image: string,
  sizeBytes: number,
  options: WriteOptions,
  context: CommandContext,
): Promise<GrowResult> {
  const warnings: string[] = [];
  const store = await storeOf(image, true);
  const cache = makeCache(options.cache, realClock);
  const result = await withDevice(store, options.partition, (device) =>
    growExt(device, cache, {
      sizeBytes,
      clock: realClock,
      random: Random.ofPlatform(),
      signal: context.signal,
      warn: (text) => warnings.push(text),
    }),
  );
  sayWarnings(warnings, context);
  return result;
}
