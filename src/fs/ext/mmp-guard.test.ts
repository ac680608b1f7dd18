import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { StoreBlockDevice } from "../../block/block-device.ts";
import { PageCache } from "../../cache/page-cache.ts";
import { le32 } from "../../lib/bytes.ts";
import { VirtualClock } from "../../lib/clock.ts";
import type { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { MIB } from "../../lib/units.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import { ExtCore } from "./core.ts";
import type { ExtFileSystem } from "./ext-file-system.ts";
import { mountExt } from "./ext-fs.ts";
import { findSuperblock } from "./find-superblock.ts";
import { MMP } from "./layout.ts";
import { MmpGuard } from "./mmp-guard.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("mmp-guard");

interface Machine {
  readonly core: ExtCore;
  readonly device: StoreBlockDevice;
  readonly lost: FsError[];
  take(seed: number, signal?: AbortSignal): Promise<MmpGuard>;
}

function makeImage(): Uint8Array {
  const path = join(scratch, "mmp.img");
  writeFileSync(path, "");
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-O", "mmp", path, "8M"]);
  return new Uint8Array(readFileSync(path));
}

async function machineOn(image: Uint8Array, clock: VirtualClock): Promise<Machine> {
  const device = new StoreBlockDevice(new MemoryStore(image), { clock });
  const found = await findSuperblock(device, "primary", undefined, undefined);
  const cache = new PageCache({ clock, arenaBytes: 4 * MIB });
  const core = new ExtCore(found.sb, found.blocknr, device, cache, () => {}, false);
  const lost: FsError[] = [];
  const onLost = (cause: FsError): number => lost.push(cause);
  const take = (seed: number, signal?: AbortSignal): Promise<MmpGuard> =>
    MmpGuard.take(core, device, { clock, random: new Random(seed), onLost, signal });
  return { core, device, lost, take };
}

/** `mmp_seq` as it lies in the image. */
function seqOf({ core: { sb } }: Machine, image: Uint8Array): number {
  return le32(image, sb.mmpBlock * sb.blockBytes + MMP.mmp_seq);
}

/** Lets time pass until `work` has ended. */
async function passing<T>(clock: VirtualClock, work: Promise<T>): Promise<T> {
  let isDone = false;
  const ended = work.finally(() => {
    isDone = true;
  });
  ended.catch(() => {});
  for (let step = 0; step < 1000 && !isDone; step++) await clock.advance(500);
  return ended;
}

describe.skipIf(!hasTools)("multi-mount protection of a writer", () => {
  test("the signal of taking it has no effect on who has it", async () => {
    const clock = new VirtualClock();
    const machine = await machineOn(makeImage(), clock);
    const controller = new AbortController();
    const guard = await passing(clock, machine.take(1, controller.signal));
    controller.abort(new Error("too late"));
    for (let step = 0; step < 40; step++) await clock.advance(1000);
    expect(machine.lost).toEqual([]);
    await passing(clock, guard.give());
    await machine.core.close();
  });

  test("who ends taking it half way leaves nothing that others wait for", async () => {
    const image = makeImage();
    const clock = new VirtualClock();
    const machine = await machineOn(image, clock);
    const before = seqOf(machine, image);
    const controller = new AbortController();
    const taking = machine.take(1, controller.signal);
    taking.catch(() => undefined);
    await clock.advance(1000);
    expect(seqOf(machine, image)).not.toBe(before);
    controller.abort(new Error("enough"));
    await expect(passing(clock, taking)).rejects.toThrow("enough");
    expect(seqOf(machine, image)).toBe(before);
    await machine.core.close();
  });

  test("who has it himself is not warned of it, who only reads meanwhile is", async () => {
    const image = makeImage();
    const clock = new VirtualClock();
    const device = new StoreBlockDevice(new MemoryStore(image), { clock });
    const mount = (writable: boolean): Promise<ExtFileSystem> => {
      const cache = new PageCache({ clock, arenaBytes: 4 * MIB });
      return mountExt(device, cache, { clock, random: new Random(1), writable });
    };
    const writer = await passing(clock, mount(true));
    expect(writer.warnings).toEqual([]);
    const reader = await passing(clock, mount(false));
    expect(reader.warnings.join()).toContain("in use by the machine");
    await passing(clock, Promise.resolve(reader.close()));
    await passing(clock, Promise.resolve(writer.close()));
  });

  test("takes a file system that nobody has, and gives it back clean", async () => {
    const image = makeImage();
    const clock = new VirtualClock();
    const machine = await machineOn(image, clock);
    const guard = await passing(clock, machine.take(1));
    await clock.advance(60_000);
    await guard.give();
    const path = join(scratch, "given.img");
    writeFileSync(path, image);
    expect(runTool("e2fsck", ["-fn", path])).toContain("Pass 5");
    expect(machine.lost).toEqual([]);
  });

  test("who comes second is refused while the first is at work", async () => {
    const image = makeImage();
    const clock = new VirtualClock();
    const first = await machineOn(image, clock);
    const guard = await passing(clock, first.take(1));
    const second = await machineOn(image, clock);
    await expect(passing(clock, second.take(2))).rejects.toMatchObject({
      code: "EBUSY",
      message: expect.stringContaining('in use by the machine "quire"'),
    });
    await guard.give();
    expect(first.lost).toEqual([]);
  });

  test("one that was left by a crash is taken over after a wait", async () => {
    const image = makeImage();
    const crashed = new VirtualClock();
    await passing(crashed, (await machineOn(image, crashed)).take(1));
    const clock = new VirtualClock();
    const machine = await machineOn(image, clock);
    await (await passing(clock, machine.take(2))).give();
    expect(clock.nowMs()).toBeGreaterThan(20_000);
  });

  test("another's number in the block ends the writing", async () => {
    const image = makeImage();
    const clock = new VirtualClock();
    const first = await machineOn(image, clock);
    await passing(clock, first.take(1));
    const copy = image.slice();
    await passing(clock, (await machineOn(copy, clock)).take(2));
    const { mmpBlock, blockBytes } = first.core.sb;
    const [from, end] = [mmpBlock * blockBytes, (mmpBlock + 1) * blockBytes];
    image.set(copy.subarray(from, end), from);
    await clock.advance(6000);
    expect(first.lost.map(({ code }) => code)).toEqual(["EBUSY"]);
  });
});
