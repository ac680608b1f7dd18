/**
 * The sink of file systems without a journal: each commit writes its blocks home, in an order after
 * which a power cut leaves only what e2fsck can mend without loss to others.
 *
 *     ordered data, new blocks  --flush-->  bitmaps, inodes, counts  --flush-->  the rest  --flush
 *     what is pointed to                    what owns it                         names, maps
 *
 *     and where an operation has asked for an order (`Handle.order`)
 *     a block with a new name   --flush-->  the block that has lost the old one    --flush
 *
 *  1. Initialise before pointing: a new block is on disk before the inode or block that leads to
 *     it, and an inode before its name. An inode whose name is still there is mended by dropping
 *     the name.
 *  2. What is freed is taken again only when all of the commit is durable.
 *  3. A file that gets another name has the old one until it has the new one, and what the new name
 *     led to before stays until then.
 *  4. A step without blocks costs nothing: a change of one inode is one write and one flush.
 *
 * After 4.12 of the specification of the journal, which follows the soft updates of BSD without
 * their rollbacks: operations that would need these end the transaction before them.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { flushDevice } from "../../block/write-device.ts";
import { FsError } from "../../lib/errno.ts";
import { mutants } from "../../lib/mutants.ts";
import type { ExtCore } from "./core.ts";
import { type BlockSpan, FixedBlocks } from "./fixed-blocks.ts";
import { type HomeBlock, writeHome } from "./home-writes.ts";
import type { BlockTable, LogSink, PreparedCommit, Transaction } from "./transaction.ts";

/** Blocks of one commit at most; the arena allows fewer in most cases. */
const MAX_BLOCKS = 10_000;

/**
 * Reads where the blocks of a file system are whose place is fixed by the descriptors: bitmaps,
 * inode tables, and these.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for a damaged descriptor, `EIO`
 */
export async function readFixedBlocks(core: ExtCore): Promise<FixedBlocks> {
  const { sb, groups, metadata } = core;
  const runs: BlockSpan[] = [[0, sb.firstDataBlock + 1]];
  for (let index = 0; index < sb.descriptorBlockCount; index++) {
    runs.push([groups.descriptorBlock(index), 1]);
  }
  for (let group = 0; group < sb.groupCount; group++) {
    const descriptor = await metadata.run(() => core.groups.descriptor(group));
    runs.push([descriptor.blockBitmap, 1], [descriptor.inodeBitmap, 1]);
    runs.push([descriptor.inodeTable, sb.inodeTableBlockCount]);
  }
  return new FixedBlocks(runs);
}

interface CopiedBlock extends HomeBlock {
  readonly isNew: boolean;
}

/**
 * The blocks of a commit in the steps in which they are written; `behind` tells which others a
 * block has to follow, and goes round nowhere.
 */
function stepsOf(
  copies: readonly CopiedBlock[],
  fixed: FixedBlocks,
  behind: ReadonlyMap<number, ReadonlySet<number>>,
): readonly CopiedBlock[][] {
  const byNumber = new Map(copies.map((copy) => [copy.blocknr, copy]));
  const known = new Map<number, number>();
  const stepOf = ({ blocknr, isNew }: CopiedBlock): number => {
    let step = known.get(blocknr);
    if (step !== undefined) return step;
    // A block of inodes that is never read is new too, and leads to data all the same.
    if (fixed.has(blocknr)) step = 1;
    else step = isNew ? 0 : 2;
    for (const first of behind.get(blocknr) ?? []) {
      const before = byNumber.get(first);
      if (before !== undefined) step = Math.max(step, stepOf(before) + 1);
    }
    known.set(blocknr, step);
    return step;
  };
  const steps: CopiedBlock[][] = [[], [], []];
  for (const copy of copies) {
    const step = stepOf(copy);
    while (steps.length <= step) steps.push([]);
    steps[step]!.push(copy);
  }
  return steps;
}

/** See the head of the file. */
export class DirectLog implements LogSink {
  readonly maxBlocks: number = MAX_BLOCKS;
  readonly isOneByOne = true;
  readonly isCrowded = false;
  readonly #device: BlockDevice;
  readonly #table: BlockTable;
  readonly #blockBytes: number;
  readonly #readFixed: () => Promise<FixedBlocks>;
  #fixed: FixedBlocks | undefined = undefined;
  #isAborted = false;

  /** `readFixed` is called once, by the first commit. */
  constructor(
    device: BlockDevice,
    table: BlockTable,
    blockBytes: number,
    readFixed: () => Promise<FixedBlocks>,
  ) {
    this.#device = device;
    this.#table = table;
    this.#blockBytes = blockBytes;
    this.#readFixed = readFixed;
  }

  isLogged(): boolean {
    return false;
  }

  hasRoom(): boolean {
    return true;
  }

  prepare(transaction: Transaction, ordered: Promise<void> | undefined): PreparedCommit {
    const isOrdered = ordered !== undefined && !mutants.dataWithoutFlush;
    const copies = [...transaction.blocks].map(({ blocknr, data, isNew }) => {
      return { blocknr, data: data.slice(), isNew };
    });
    return {
      write: async () => {
        this.#fixed ??= await this.#readFixed();
        await ordered;
        for (const [step, blocks] of stepsOf(copies, this.#fixed, transaction.behind).entries()) {
          if (this.#isAborted) throw new FsError("EIO", { detail: "writing was given up" });
          if (blocks.length > 0) await writeHome(this.#device, blocks, this.#blockBytes);
          const isWanted = blocks.length > 0 || (step === 0 && isOrdered);
          if (isWanted) await flushDevice(this.#device);
        }
      },
    };
  }

  committed(transaction: Transaction): void {
    for (const block of transaction.blocks) {
      block.committing = null;
      this.#table.releaseIfIdle(block);
    }
    for (const block of transaction.freed) {
      block.freed = null;
      this.#table.releaseIfIdle(block);
    }
  }

  /** All that is committed is home. */
  async checkpoint(): Promise<void> {}

  /** All that is committed is home. */
  async empty(): Promise<void> {}

  stop(): void {
    this.#isAborted = true;
  }

  /** There is no place to note it. */
  async abort(): Promise<void> {
    this.stop();
  }
}
