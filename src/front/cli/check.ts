/** `quire check`: is the image consistent? And the part of a disk that it is about. */
import { type BlockDevice, StoreBlockDevice } from "../../block/block-device.ts";
import { readPartitions } from "../../block/partitions.ts";
import { type CheckReport, checkExt, type Finding } from "../../fs/ext/check/index.ts";
import { probeExt } from "../../fs/ext/ext-fs.ts";
import { realClock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import type { Store } from "../../store/store.ts";
import { extPartitionsOf, partitionDevice } from "../disk.ts";
import { makeCache } from "../make-cache.ts";
import { storeOf } from "../open-image.ts";
import { type CommandContext, type CommonOptions, EXIT_DAMAGED } from "./command.ts";
import { Progress, plainLine, printable, printJson, writeAll } from "./output.ts";

/** Does `task` with the file system's part of `store`, which is closed after it. */
export async function withDevice<T>(
  store: Store,
  partition: number | undefined,
  task: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const disk = new StoreBlockDevice(store, { clock: realClock });
  try {
    return await task(await deviceOf(disk, partition));
  } finally {
    await disk.close();
    await store.close();
  }
}

async function deviceOf(disk: StoreBlockDevice, wanted: number | undefined): Promise<BlockDevice> {
  const table = await readPartitions(disk);
  if (wanted === undefined && (table.partitions.length === 0 || (await probeExt(disk)))) {
    return disk;
  }
  const candidates = await extPartitionsOf(disk, table, realClock);
  const found =
    wanted === undefined
      ? candidates.length === 1
        ? candidates[0]
        : undefined
      : table.partitions.find(({ number }) => number === wanted);
  if (found !== undefined) return partitionDevice(disk, found, realClock);
  const numbers = candidates.map(({ number }) => number).join(", ") || "none";
  const detail = `name a partition with --partition: ext2/3/4 is in ${numbers}`;
  throw new FsError("EINVAL", { syscall: "open", path: disk.name, detail });
}

/** "damage inode.links, inode 12: .."; the parts that a finding names. */
function findingLine({ code, severity, where, text }: Finding): string {
  const names = {
    group: "group",
    ino: "inode",
    blocknr: "block",
    fileBlock: "file block",
  } as const;
  const parts = Object.entries(names).flatMap(([key, name]) => {
    const value = where[key as keyof typeof names];
    return value === undefined ? [] : [`${name} ${value}`];
  });
  return plainLine(`${severity} ${[code, ...parts].join(", ")}: ${text}`);
}

function reportText(image: string, report: CheckReport): string {
  const { damageCount, noteCount, findings, isClean, isComplete } = report;
  const lines = findings.map(findingLine);
  const hidden = damageCount + noteCount - findings.length;
  if (hidden > 0) lines.push(`.. and ${hidden} more`);
  const state = isClean && isComplete ? "clean" : `damaged, ${damageCount} findings`;
  const used = `${report.usedInodes} inodes and ${report.usedClusters} clusters in use`;
  const rest = isComplete ? "" : "; the check could not go on to its end";
  lines.push(`${printable(image)}: ${state}; ${used}${rest}`);
  return `${lines.join("\n")}\n`;
}

/** `quire check IMAGE`: exit code 3 if it is damaged. */
export async function runCheck(
  image: string,
  options: CommonOptions,
  context: CommandContext,
): Promise<void> {
  const progress = new Progress("checked", context);
  const { signal } = context;
  const cache = makeCache(options.cache, realClock);
  let report: CheckReport;
  try {
    report = await withDevice(await storeOf(image), options.partition, (device) =>
      checkExt(device, cache, {
        clock: realClock,
        signal,
        onProgress: (part, done, of) => progress.say(`checking ${part}: ${done} of ${of}`),
      }),
    );
  } finally {
    progress.done();
  }
  if (options.json === true) printJson(context.stdout, report);
  else await writeAll(context, reportText(image, report));
  if (!report.isClean || !report.isComplete) context.fail(EXIT_DAMAGED);
}
