/**
 * The writable half of each crafted log: what a read-only open shows is what recovery writes, and
 * what it refuses is left as it was.
 *
 *     image --recovery--> write 1, write 2, .. write n --> final image
 *     image + write 1..k --recovery--> the same final image, for each k
 */
import { readDevice, StoreBlockDevice } from "../../src/block/block-device.ts";
import { SB } from "../../src/fs/ext/layout.ts";
import { type Recovered, recoverJournal } from "../../src/fs/ext/recover.ts";
import type { Replay } from "../../src/fs/ext/recovery.ts";
import { hasSuperblockMagic, Superblock } from "../../src/fs/ext/superblock.ts";
import { le32, putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { realClock } from "../../src/lib/clock.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { StoreCapabilities } from "../../src/store/store.ts";
import {
  type CraftOptions,
  craftContext,
  HOME_BLOCKS,
  type JournalBuilder,
} from "./crafted-log.ts";

/** Points at which a recovery of many writes is broken off. */
const BREAKS_MAX = 6;
/** Records of fast commits up to which it is tried that they are refused. */
const RECORDS_MAX = 10_000;

/** A write that a recovery has made. */
interface Written {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** Bytes in memory that want to be flushed, as those of a disk. */
class CachingStore extends MemoryStore {
  onWrite: (write: Written) => void = () => undefined;
  onFlush: () => void = () => undefined;
  override readonly capabilities: StoreCapabilities = {
    canWrite: true,
    canDiscard: true,
    hasFua: true,
    stableWrites: false,
    hasVolatileCache: true,
    blockBytes: 512,
  };

  override write(...args: Parameters<MemoryStore["write"]>): Promise<void> {
    const [offsetBytes, from] = args;
    const bytes = Buffer.concat(from instanceof Uint8Array ? [from] : from);
    this.onWrite({ offsetBytes, bytes });
    return super.write(...args);
  }

  override flush(): Promise<void> {
    this.onFlush();
    return super.flush();
  }
}

/** A recovery, and what it did to the image. */
export interface RecoveredImage {
  readonly recovered: Recovered;
  readonly image: Uint8Array;
  readonly writes: readonly Written[];
  /** What was done, in order: writes by their offset, and flushes. */
  readonly steps: readonly (number | "flush")[];
}

/** Lets a writable open recover a copy of `before`. Rejects as `recoverJournal`. */
export async function recoverImage(
  before: Uint8Array,
  log: JournalBuilder,
  options: CraftOptions & { readonly force?: boolean } = {},
  report?: (image: Uint8Array) => void,
): Promise<RecoveredImage> {
  const image = before.slice();
  const writes: Written[] = [];
  const steps: (number | "flush")[] = [];
  const store = new CachingStore(image);
  store.onWrite = (write) => {
    writes.push(write);
    steps.push(write.offsetBytes);
  };
  store.onFlush = () => void steps.push("flush");
  const device = new StoreBlockDevice(store, { clock: realClock });
  const ctx = craftContext(image, log, options);
  const recovering = recoverJournal(ctx, device, { clock: realClock, ...options });
  const recovered = await recovering.finally(() => report?.(image));
  return { recovered, image, writes, steps };
}

function fail(what: string): never {
  throw new Error(`recovery on a writable open: ${what}`);
}

/** True if it is about something that only a read-only open knows, or has not one device. */
function isOther({ noload, salvage, isExternal }: CraftOptions): boolean {
  return noload === true || salvage === true || isExternal === true;
}

/** Checks that a log that cannot be read, for the reason `thrown`, is not written either. */
export async function checkRefusal(
  before: Uint8Array,
  log: JournalBuilder,
  options: CraftOptions,
  thrown: unknown,
): Promise<void> {
  if (isOther(options)) return;
  await refuses(before, log, options, (thrown as { code?: string }).code);
}

async function refuses(
  before: Uint8Array,
  log: JournalBuilder,
  options: CraftOptions,
  code: string | undefined,
): Promise<void> {
  const report = (image: Uint8Array): void => {
    if (Buffer.compare(image, before) !== 0) fail("what it refuses was changed");
  };
  const outcome = await recoverImage(before, log, options, report).then(
    () => "success",
    (thrown: { code?: string }) => thrown.code,
  );
  if (code !== undefined && outcome !== code) fail(`${outcome} where reading said ${code}`);
  if (outcome === "success") fail("it has taken what has to be refused");
}

/** Checks that recovery comes to what `replay` shows, also if it is broken off. */
export async function checkRecovery(
  before: Uint8Array,
  log: JournalBuilder,
  options: CraftOptions,
  replay: Replay,
): Promise<void> {
  if (isOther(options)) return;
  if ((replay.fastCommits?.recordCount ?? 0) > RECORDS_MAX) return; // It would cost the same again.
  if (replay.fastCommits !== undefined) return refuses(before, log, options, "EOPNOTSUPP");
  if (options.needsRecovery === false) {
    if (log.options.start !== 0) await refuses(before, log, options, undefined);
    return;
  }
  const whole = await recoverImage(before, log, options);
  const homeBytes = HOME_BLOCKS * log.blockBytes;
  const shown = await readDevice(replay.device, 0, homeBytes);
  const homes = whole.image.slice(0, homeBytes);
  if (Buffer.compare(comparable(shown), comparable(homes)) !== 0) {
    fail("homes differ from what was read");
  }
  const { writes } = whole;
  if (!namesJournal(whole.image)) return; // A superblock in the log that no writer would log.
  const breaks = options.homeBlocks === undefined ? BREAKS_MAX : 1;
  const step = Math.max(1, Math.ceil(writes.length / breaks));
  for (let count = 0; count <= writes.length; count += step) {
    const image = before.slice();
    for (const { offsetBytes, bytes } of writes.slice(0, count)) image.set(bytes, offsetBytes);
    const again = await recoverImage(image, log, options);
    if (Buffer.compare(again.image, whole.image) !== 0) fail(`differs after ${count} writes`);
  }
}

function namesJournal(image: Uint8Array): boolean {
  const sb = image.subarray(1024, 2048);
  return !hasSuperblockMagic(sb) || new Superblock(sb.slice()).journalIno !== 0;
}

/** Home blocks without what the two opens set differently: RECOVER, and so the checksum. */
function comparable(homes: Uint8Array): Uint8Array {
  const bytes = homes.slice();
  const sb = bytes.subarray(1024, 2048);
  if (!hasSuperblockMagic(sb)) return bytes;
  putLe32(sb, SB.s_feature_incompat, le32(sb, SB.s_feature_incompat) & ~4);
  putLe32(sb, SB.s_checksum, 0);
  putLe32(sb, SB.s_snapshot_list, 0); // Makes the checksum right: see `sealSuperblock`.
  putLe16(sb, SB.s_state, 0);
  return bytes;
}
