/** Power cuts at every write and flush of a workload: cases J81, J82, J84, J91, J93 to J97. */
import { describe, expect, test } from "vitest";
import { be32 } from "../../../src/lib/bytes.ts";
import { VirtualClock } from "../../../src/lib/clock.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { Random } from "../../../src/lib/random.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { SimDisk } from "../../../src/store/sim-disk.ts";
import { sleep } from "../../../src/store/sleep.ts";
import { craftImage, JournalBuilder, type LogOptions, runsOf } from "../../support/crafted-log.ts";
import {
  DATA_STAMP,
  JournalWorld,
  openWorld,
  recoveredCopy,
} from "../../support/journal-workload.ts";

/** Runs `work` while virtual time goes on. */
async function drive<T>(clock: VirtualClock, work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  done.catch(() => undefined);
  while (!isDone) await clock.advance(1);
  return done;
}

interface CrashRun {
  readonly crashCount: number;
  readonly opsSeen: ReadonlySet<number>;
}

/** Works on a simulated disk, and recovers from a power cut at every moment. */
async function crashEverywhere(
  seed: number,
  ops: number,
  options: LogOptions,
  { cutShare = 0.5, checkpointShare = 0 } = {},
): Promise<CrashRun> {
  const random = new Random(seed);
  const log = new JournalBuilder({ blockBytes: 1024, start: 0, sequence: 1, ...options });
  const image = craftImage(log, {}, runsOf(log, {}));
  image.fill(0, 10 * 1024, 60 * 1024);
  const clock = new VirtualClock();
  const disk = new SimDisk(image, { clock, random });
  const crashes: { disk: SimDisk; acknowledged: number }[] = [];
  let world: JournalWorld | undefined;
  const cut = (): void => {
    if (world === undefined) return;
    const { acknowledged } = world;
    const choices = [(): number => 0, (_: number, w: readonly number[]): number => w.length];
    for (const choose of [...choices, undefined]) {
      if (random.chance(cutShare)) crashes.push({ disk: disk.crash(choose), acknowledged });
    }
  };
  const { write, flush } = disk;
  disk.write = (...args) => write.apply(disk, args).finally(cut);
  disk.flush = (...args) => flush.apply(disk, args).finally(cut);
  const { transactions, device } = await drive(clock, openWorld(disk, image, log, clock));
  const own = new JournalWorld(transactions, device, 1024, random.fork());
  world = own;
  const work = async (): Promise<void> => {
    for (let op = 0; op < ops; op++) {
      await own.step();
      if (random.chance(0.3)) await own.sync();
      else if (random.chance(0.2)) void own.sync();
      if (random.chance(checkpointShare)) void transactions.log.checkpoint();
      if (random.chance(0.5)) await sleep(clock, random.below(30));
    }
    await transactions.close();
  };
  await drive(clock, work());
  own.acknowledged = own.opCount;
  cut();
  const opsSeen = new Set<number>();
  for (const crash of crashes) {
    const recovered = await recoveredCopy(crash.disk.durableImage(), log);
    opsSeen.add(own.check(recovered, crash.acknowledged));
  }
  return { crashCount: crashes.length, opsSeen };
}

const seeds = [1, 2, 3];
const forms: readonly (readonly [string, LogOptions])[] = [
  ["v3 and 64 bit", {}],
  ["no checksums", { checksum: 0, is64Bit: false }],
  ["v1 sums", { checksum: 1, is64Bit: false }],
  ["v2", { checksum: 2 }],
];

/** A disk on which one write fails, counted from 1; a cut then leaves what has completed. */
class FailingDisk extends MemoryStore {
  failAt = 0;
  #count = 0;

  override async write(...args: Parameters<MemoryStore["write"]>): Promise<void> {
    const [, from] = args;
    // A failed write of data is its owner's affair.
    const isData = from instanceof Uint8Array && be32(from, 0) === DATA_STAMP;
    if (!isData && ++this.#count === this.failAt) throw new FsError("EIO");
    await super.write(...args);
  }
}

describe("write errors", () => {
  test("J94 whichever write fails, nothing acknowledged is lost and nothing is half done", async () => {
    const codes = new Set<string>();
    for (let failAt = 1; failAt < 160; failAt += 3) {
      const random = new Random(failAt);
      const log = new JournalBuilder({ blockBytes: 1024, start: 0, sequence: 1 });
      const image = craftImage(log, {}, runsOf(log, {}));
      image.fill(0, 10 * 1024, 60 * 1024);
      const disk = new FailingDisk(image);
      const clock = new VirtualClock();
      const { transactions, device } = await openWorld(disk, image, log, clock);
      const world = new JournalWorld(transactions, device, 1024, random);
      disk.failAt = failAt;
      const work = async (): Promise<void> => {
        for (let op = 0; op < 100; op++) {
          await world.step();
          if (random.chance(0.3)) await world.sync();
          if (random.chance(0.1)) await transactions.log.checkpoint();
        }
      };
      const code = await work().then(
        () => "none",
        (thrown: FsError) => thrown.code,
      );
      codes.add(code);
      world.check(await recoveredCopy(image, log), world.acknowledged);
    }
    expect(codes).toContain("EIO");
  }, 60_000);
});

describe("power cuts", () => {
  test.each(forms)(
    "J84 after a cut at any write or flush the world is that of a prefix: %s",
    async (_name, options) => {
      for (const seed of seeds) {
        const { crashCount, opsSeen } = await crashEverywhere(seed, 120, options);
        expect(crashCount, `seed ${seed}`).toBeGreaterThan(150);
        expect(opsSeen.size, `seed ${seed}`).toBeGreaterThan(20);
      }
    },
    60_000,
  );

  test("J82 no home has a change that is not committed, and no data an older copy", async () => {
    for (const seed of seeds) {
      const shares = { cutShare: 0.3, checkpointShare: 0.2 };
      const { opsSeen } = await crashEverywhere(seed, 300, {}, shares);
      expect(opsSeen.size, `seed ${seed}`).toBeGreaterThan(40);
    }
  }, 60_000);

  test("J91 a small log is written round and round, its tail moves after the homes", async () => {
    for (const seed of seeds) {
      const { opsSeen } = await crashEverywhere(seed, 900, {}, { cutShare: 0.1 });
      expect(opsSeen.size, `seed ${seed}`).toBeGreaterThan(60);
    }
  }, 60_000);
});
