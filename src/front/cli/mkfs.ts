/**
 * `quire mkfs`: a new image, empty or filled from a directory or a tar stream.
 *
 *     size known or measured --> file under another name --> file system --> files --> its own name
 *
 *  1. Equal input, options and `--seed` or SOURCE_DATE_EPOCH give equal bytes: time stands still,
 *     and all is written in the order of the input. Access times are not those of the input, which
 *     reading it changes, but times of modification.
 *  2. Nobody needs to be root: owners come from the input and the options.
 *  3. With `--size auto` the image is as large as its files need, with a little room; what turns
 *     out to be too small is made again, larger.
 */
import { lstatSync, statSync } from "node:fs";
import { StoreBlockDevice } from "../../block/block-device.ts";
import { type MkfsOptions, type MkfsResult, makeExt } from "../../fs/ext/mkfs/index.ts";
import { type Clock, realClock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import type { Random } from "../../lib/random.ts";
import { GIB, MIB, PAGE_BYTES, roundUp } from "../../lib/units.ts";
import { openFileStore } from "../../store/file-store.ts";
import type { Store } from "../../store/store.ts";
import { formatSize } from "../size-text.ts";
import type { TreeSource } from "../tree/tree-entry.ts";
import { TreeMeasure } from "../tree/tree-measure.ts";
import { withOwners } from "../tree/tree-owners.ts";
import { openVolume } from "../volume.ts";
import { Changes } from "./changes.ts";
import { type CommandContext, EXIT_FAILED } from "./command.ts";
import { checkIsNew, determined, type MakeOptions, mkfsOptions, sizeOf } from "./make-options.ts";
import { MakeSource } from "./make-source.ts";
import { ForgetfulStore, NewImage, temporaryOf } from "./new-image.ts";
import { Progress, printable, printJson, tellAll, writeAll } from "./output.ts";
import { ownerChoice } from "./owner-option.ts";
import { actionText, writeTree } from "./put.ts";

/** All is written down after so much, in the same places of each run, before the flusher does. */
const SYNC_BYTES = 4 * MIB;
/** Of one size in all runs, whatever `--cache` says: what is written when depends on it. */
const CACHE_BYTES = 64 * MIB;
const AUTO_BLOCK_BYTES = PAGE_BYTES;
const AUTO_BYTES_MIN = 2 * MIB;
const AUTO_TRIES = 12;
/** Room that is left in an image of size "auto", and by how much a too small one grows. */
const AUTO_SLACK = 0.04;
const AUTO_SLACK_BLOCKS = 64;
const AUTO_GROWTH = 1.25;
/** Inodes that a new file system uses itself. */
const OWN_INODES = 12;
const INODE_SLACK = 1.05;

interface Size {
  readonly sizeBytes: number;
  readonly options: MkfsOptions;
}

/** One run of `mkfs`. */
class Making {
  readonly #image: string;
  readonly #options: MakeOptions;
  readonly #context: CommandContext;
  readonly #clock: Clock;
  readonly #random: () => Random;
  readonly #progress: Progress;
  #failedCount = 0;

  constructor(image: string, options: MakeOptions, context: CommandContext, progress: Progress) {
    this.#image = image;
    this.#options = options;
    this.#context = context;
    this.#progress = progress;
    const { clock, random } = determined(options.seed, process.env["SOURCE_DATE_EPOCH"]);
    this.#clock = clock;
    this.#random = random;
  }

  async run(): Promise<void> {
    const wanted = sizeOf(this.#options);
    // Wrong options are told before anything is read or made.
    mkfsOptions(this.#options, this.#clock, this.#random());
    const { from } = this.#options;
    await checkTarget(this.#image, this.#options.force === true, from);
    const isDryRun = this.#options.dryRun === true;
    const isRepeated = wanted === "auto" || isDryRun;
    await using source =
      from === undefined
        ? undefined
        : await MakeSource.open(from, this.#context, this.#image, isRepeated);
    const size = wanted === "auto" ? await this.#autoSize(source!) : this.#fixedSize(wanted);
    if (isDryRun) await this.#plan(size, source);
    else await this.#make(size, source, wanted === "auto");
  }

  #fixedSize(sizeBytes: number): Size {
    return { sizeBytes, options: mkfsOptions(this.#options, this.#clock, this.#random()) };
  }

  /** A size with which the files of `source` have room. */
  async #autoSize(source: MakeSource): Promise<Size> {
    const blockBytes = this.#options.blockSize ?? AUTO_BLOCK_BYTES;
    const measure = new TreeMeasure(blockBytes);
    for await (const entry of this.#entries(source, () => {})) measure.add(entry);
    const inodeCount =
      this.#options.inodes ?? Math.ceil(measure.inodes * INODE_SLACK) + 2 * OWN_INODES;
    const base = mkfsOptions(this.#options, this.#clock, this.#random());
    const options = { ...base, blockBytes, inodeCount };
    const needed = Math.ceil(measure.blocks * (1 + AUTO_SLACK)) + AUTO_SLACK_BLOCKS;
    let sizeBytes = Math.max(AUTO_BYTES_MIN, roundUp(needed * blockBytes, MIB));
    for (let tries = 0; tries < AUTO_TRIES; tries++) {
      const free = await this.#freeBlocks(sizeBytes, options);
      if (free >= needed) break;
      const missing = (needed - Math.max(free, 0)) * blockBytes;
      sizeBytes = roundUp(sizeBytes + missing, MIB);
    }
    return { sizeBytes, options };
  }

  /** Free blocks of a new file system of this size; -1 if it cannot be so small. */
  async #freeBlocks(sizeBytes: number, options: MkfsOptions): Promise<number> {
    try {
      const store = new ForgetfulStore(sizeBytes);
      return (await this.#format(store, { ...options, random: this.#random() })).freeBlockCount;
    } catch (error) {
      if (error instanceof FsError && error.code === "ENOSPC" && sizeBytes < GIB * GIB) return -1;
      throw error;
    }
  }

  async #format(store: Store, options: MkfsOptions): Promise<MkfsResult> {
    const device = new StoreBlockDevice(store, { clock: this.#clock });
    try {
      return await makeExt(device, { ...options, signal: this.#context.signal });
    } finally {
      await device.close();
    }
  }

  #entries(source: MakeSource, onError: (error: unknown) => void): TreeSource {
    const withXattrs = this.#options.xattrs !== false;
    const entries = source.entries((_path, error) => onError(error), withXattrs, [
      this.#image,
      temporaryOf(this.#image),
    ]);
    return withOwners(entries, ownerChoice(this.#options));
  }

  /** `--dry-run`: what would be made. */
  async #plan(size: Size, source: MakeSource | undefined): Promise<void> {
    const store = new ForgetfulStore(size.sizeBytes);
    const result = await this.#format(store, size.options);
    const lines = [this.#sentence("make", size.sizeBytes, result)];
    if (source !== undefined) {
      for await (const entry of this.#entries(source, (error) => this.#fail(error))) {
        const isLink = entry.linkTo !== undefined;
        lines.push(actionText(entry.path, entry, isLink ? "linked" : "made"));
      }
    }
    if (this.#options.json === true) {
      const actions = lines;
      printJson(this.#context.stdout, { ...this.#summary(size.sizeBytes, result), actions });
    } else await writeAll(this.#context, `${lines.join("\n")}\n`);
  }

  async #make(size: Size, source: MakeSource | undefined, mayGrow: boolean): Promise<void> {
    this.#context.mustFinish?.();
    const image = new NewImage(this.#image);
    try {
      let { sizeBytes } = size;
      for (let tries = 1; ; tries++) {
        try {
          const result = await this.#attempt(image, { ...size, sizeBytes }, source);
          await image.finish();
          await this.#tell(sizeBytes, result);
          return;
        } catch (error) {
          const isFull = error instanceof FsError && error.code === "ENOSPC";
          if (!isFull || !mayGrow || tries === AUTO_TRIES) throw error;
          sizeBytes = roundUp(sizeBytes * AUTO_GROWTH, MIB);
        }
      }
    } finally {
      await image.discard();
    }
  }

  async #attempt(
    image: NewImage,
    { sizeBytes, options }: Size,
    source: MakeSource | undefined,
  ): Promise<MkfsResult> {
    const random = this.#random();
    const result = await this.#format(image.store(sizeBytes), { ...options, random });
    if (source === undefined) return result;
    this.#progress.restart();
    this.#failedCount = 0;
    const volume = await openVolume(image.again(sizeBytes), {
      writable: true,
      unlogged: true,
      clock: this.#clock,
      random,
      cache: CACHE_BYTES,
      atime: "noatime",
      signal: this.#context.signal,
    });
    const { verbose } = this.#options;
    const changes = new Changes(
      volume,
      { ...(verbose === true ? { verbose } : {}) },
      this.#context,
    );
    try {
      const entries = this.#entries(source, (error) => changes.failed(error));
      const dir = await volume.fs.inode("/");
      const place = { dir, dirPath: new Uint8Array(0), name: undefined };
      await writeTree(changes, settled(entries), place, this.#progress, {
        syncBytes: SYNC_BYTES,
      });
      this.#failedCount = changes.failedCount;
    } finally {
      await volume.close();
    }
    return result;
  }

  #fail(error: unknown): void {
    this.#failedCount++;
    const text = error instanceof Error ? error.message : String(error);
    this.#context.stderr.write(`quire: ${printable(text)}\n`);
    this.#context.fail(EXIT_FAILED);
  }

  #summary(sizeBytes: number, result: MkfsResult): object {
    const { blockBytes, blockCount, inodeCount, journalBlocks } = result;
    const { files, bytes } = this.#progress;
    const uuid = Buffer.from(result.uuid).toString("hex");
    const { type, label } = this.#options;
    const made = { image: this.#image, type, sizeBytes, blockBytes, blockCount, inodeCount };
    const failed = this.#failedCount;
    const dryRun = this.#options.dryRun === true;
    return { ...made, journalBlocks, uuid, label: label ?? "", files, bytes, failed, dryRun };
  }

  #sentence(verb: string, sizeBytes: number, result: MkfsResult): string {
    const { blockBytes, blockCount, inodeCount } = result;
    const what = `${this.#options.type} file system ${printable(this.#image)}`;
    const counts = `${blockCount} blocks of ${blockBytes} bytes, ${inodeCount} inodes`;
    return `${verb} ${what}: ${formatSize(sizeBytes)}, ${counts}`;
  }

  async #tell(sizeBytes: number, result: MkfsResult): Promise<void> {
    if (this.#options.json === true) {
      printJson(this.#context.stdout, this.#summary(sizeBytes, result));
      return;
    }
    const { files, bytes } = this.#progress;
    const held = this.#options.from === undefined ? "" : `, ${files} files, ${formatSize(bytes)}`;
    await tellAll(this.#context, `${this.#sentence("made", sizeBytes, result)}${held}\n`);
  }
}

/** Throws `EEXIST` if there is something already, unless it may be replaced. */
async function checkTarget(
  image: string,
  isForced: boolean,
  from: string | undefined,
): Promise<void> {
  const found = lstatSync(image, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isFile()) {
    const detail = "an image is made in a file, and this is none";
    throw new FsError("EINVAL", { syscall: "mkfs", path: image, detail });
  }
  if (!isForced && found.size > 0) {
    const detail = "--force makes a new image in its place";
    throw new FsError("EEXIST", { syscall: "mkfs", path: image, detail });
  }
  const source = from === undefined ? undefined : statSync(from, { throwIfNoEntry: false });
  if (source !== undefined && source.ino === found.ino && source.dev === found.dev) {
    const detail = "it is what the image is to be made from";
    throw new FsError("EINVAL", { syscall: "mkfs", path: image, detail });
  }
  const store = await openFileStore(image, { writable: true, exclusive: true });
  await store.close();
}

const ENTRIES_PER_TURN = 256;

/**
 * The entries without their access times (invariant 1). The event loop has its turn now and then,
 * so that a run can be interrupted.
 */
async function* settled(source: TreeSource): TreeSource {
  let count = 0;
  for await (const entry of source) {
    yield { ...entry, atime: entry.mtime };
    if (++count % ENTRIES_PER_TURN === 0) await realClock.turn();
  }
}

/** `quire mkfs IMAGE`. */
export async function runMkfs(
  image: string,
  options: MakeOptions,
  context: CommandContext,
): Promise<void> {
  checkIsNew(options);
  const progress = new Progress("written", context);
  try {
    await new Making(image, options, context, progress).run();
  } finally {
    progress.done();
  }
}
