/**
 * Judges images that a power cut has left: recovered by quire, by e2fsck or by the kernel, what is
 * there must be what a model allows.
 *
 *     with a journal       recovered, closed --> known? --> check, e2fsck -fn --> tree --> model
 *     without              says that it is clean?  then it is, for check
 *                          not clean, for check?   e2fsck -fy --> tree --> model of what was synced
 *     by others            e2fsck -fp, or a mount by the kernel --> e2fsck -fn --> tree --> model
 *
 *  1. Our check looks at every image that is not known. e2fsck looks at one of `checkEvery` of
 *     these, and at each one that our check finds something wrong with.
 *  2. One state of `foreignEvery` is recovered by the others too, by one after the other.
 */
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import { checkExt } from "../../../src/fs/ext/check/index.ts";
import { SB, SUPERBLOCK_OFFSET_BYTES } from "../../../src/fs/ext/layout.ts";
import { STATE_ERROR, STATE_VALID } from "../../../src/fs/ext/superblock-write.ts";
import { le16 } from "../../../src/lib/bytes.ts";
import { MIB } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { asRoot } from "../../support/tools.ts";
import { type CrashBase, openCrashed, recoverCrashed } from "./crash-base.ts";
import { CrashClock } from "./crash-clock.ts";
import { type CrashImage, CrashStore } from "./crash-image.ts";
import type { CrashModel } from "./crash-model.ts";
import { type FoundTree, judge, readFound } from "./crash-oracle.ts";
import { judgeRepaired } from "./crash-repaired.ts";
import type { Fsck } from "./fsck.ts";

const NONE: ReadonlySet<number> = new Set();

/** How often others than we look. */
export interface JudgeOptions {
  /** e2fsck looks at one of as many different images that are left. */
  readonly checkEvery: number;
  /** e2fsck or the kernel recover one of as many states; never by default. */
  readonly foreignEvery?: number | undefined;
  /**
   * The disk has failed: what says that errors were seen need only be whole once e2fsck has mended
   * it, and a file with a block map may show what lay where its data could not be written, as with
   * Linux (`data_err=ignore`).
   */
  readonly isDiskFailing?: boolean | undefined;
}

/** What was looked at. */
export interface JudgeCounts {
  /** States that were judged. */
  states: number;
  /** Images that were different once they were recovered: our check has looked at each. */
  distinct: number;
  /** Those that `e2fsck -fn` was asked about. */
  checked: number;
  /** Without a journal: those that `e2fsck -fy` had to mend. */
  mended: number;
  /** States that were recovered by others, too. */
  foreign: number;
}

/** See the head of the file. */
export class CrashJudge {
  readonly counts: JudgeCounts = { states: 0, distinct: 0, checked: 0, mended: 0, foreign: 0 };
  readonly #base: CrashBase;
  readonly #image: CrashImage;
  readonly #fsck: Fsck;
  readonly #options: JudgeOptions;
  readonly #mayBeStale: boolean;
  /** Bytes that are of one content, 0 if data may be torn. */
  readonly #wholeBytes: number;
  /** What images hold once they are recovered, by their digests. */
  readonly #known = new Map<string, FoundTree>();
  /** Digests of what has come of images, by those of the images. */
  readonly #recoveries = new Map<string, string>();

  constructor(base: CrashBase, image: CrashImage, fsck: Fsck, options: JudgeOptions) {
    this.#base = base;
    this.#image = image;
    this.#fsck = fsck;
    this.#options = options;
    const hasLooseData = options.isDiskFailing === true || base.data === "writeback";
    this.#mayBeStale = hasLooseData && !base.hasExtents;
    this.#wholeBytes = base.data === "journal" ? base.blockBytes : 0;
  }

  /**
   * What is wrong with the image as what a power cut at `time` has left; undefined if nothing.
   * Recovers it.
   */
  async complaintAbout(model: CrashModel, time: number): Promise<string | undefined> {
    const { foreignEvery = Infinity } = this.#options;
    this.counts.states++;
    if (this.#base.journalSectors.size === 0) return this.#afterRepair(model, time);
    if (this.counts.states % foreignEvery === 0) {
      const complaint = await this.#afterOthers(model, time);
      if (complaint !== undefined) return complaint;
    }
    return this.#afterReplay(model, time);
  }

  async #afterReplay(model: CrashModel, time: number): Promise<string | undefined> {
    const before = this.#image.digest(NONE);
    const known = this.#known.get(this.#recoveries.get(before) ?? "");
    if (known !== undefined) return this.#judge(model, known, time);
    const clock = new CrashClock();
    await clock.run(recoverCrashed(new CrashStore(this.#image), clock));
    const digest = this.#image.digest(this.#base.journalSectors);
    let found = this.#known.get(digest);
    if (found === undefined) {
      this.counts.distinct++;
      const isMended = this.#options.isDiskFailing === true && (this.#state & STATE_ERROR) !== 0;
      const complaint = isMended ? undefined : await this.#unclean();
      if (complaint !== undefined) return complaint;
      found = await this.#read(isMended);
      this.#known.set(digest, found);
    }
    this.#recoveries.set(before, digest);
    return this.#judge(model, found, time);
  }

  #judge(model: CrashModel, found: FoundTree, time: number): string | undefined {
    return judge(model, found, time, this.#mayBeStale, this.#wholeBytes);
  }

  /** Without a journal: it says that it was not closed, and what was promised can be mended. */
  async #afterRepair(model: CrashModel, time: number): Promise<string | undefined> {
    const digest = this.#image.digest(NONE);
    let found = this.#known.get(digest);
    if (found === undefined) {
      this.counts.distinct++;
      const complaint = (this.#state & STATE_VALID) === 0 ? undefined : await this.#unclean();
      if (complaint !== undefined) return `it says that it is clean: ${complaint}`;
      const mustLook = this.counts.distinct % this.#options.checkEvery === 0;
      found = await this.#read(mustLook || (await this.#findings()) !== undefined);
      this.#known.set(digest, found);
    }
    return judgeRepaired(model, found, time, this.#mayBeStale);
  }

  async #afterOthers(model: CrashModel, time: number): Promise<string | undefined> {
    const isKernels = asRoot() && this.counts.foreign++ % 2 === 1;
    const bytes = isKernels
      ? this.#fsck.mounted(this.#image)
      : this.#fsck.mended(this.#image, "-fp");
    const found = await this.#readBytes(bytes);
    const complaint = this.#judge(model, found, time);
    const who = isKernels ? "the kernel" : "e2fsck";
    return complaint === undefined ? undefined : `recovered by ${who}: ${complaint}`;
  }

  /** Flags of the superblock (`s_state`). */
  get #state(): number {
    return le16(this.#image.bytes, SUPERBLOCK_OFFSET_BYTES + SB.s_state);
  }

  /** What is in the image as it is, or as `e2fsck -fy` leaves it. */
  #read(isMended: boolean): Promise<FoundTree> {
    if (!isMended) return this.#readBytes(this.#image.bytes);
    this.counts.mended++;
    return this.#readBytes(this.#fsck.mended(this.#image, "-fy"));
  }

  async #readBytes(bytes: Uint8Array): Promise<FoundTree> {
    const clock = new CrashClock();
    const volume = await clock.run(openCrashed(new MemoryStore(bytes), clock, false));
    const found = await clock.run(readFound(volume, this.#base.journalSectors.size === 0));
    await clock.run(volume.close());
    return found;
  }

  /** What our check, and now and then e2fsck, finds wrong with the image as it is. */
  async #unclean(): Promise<string | undefined> {
    const findings = await this.#findings();
    const mustLook =
      findings !== undefined || this.counts.distinct % this.#options.checkEvery === 0;
    if (!mustLook) return undefined;
    this.counts.checked++;
    const complaint = this.#fsck.complaintAbout(this.#image);
    return findings === undefined ? complaint : `check: ${findings} (e2fsck: ${complaint})`;
  }

  /** What our check finds wrong with the image as it is. */
  async #findings(): Promise<string | undefined> {
    const clock = new CrashClock();
    const device = new StoreBlockDevice(new CrashStore(this.#image), { clock });
    const cache = new PageCache({ arenaBytes: MIB, clock });
    const { isClean, findings } = await clock.run(checkExt(device, cache, { clock }));
    return isClean ? undefined : findings.map(({ text }) => text).join("; ");
  }
}
