import { expect, test } from "vitest";
import { superblockWith } from "../../../test/support/ext-core.ts";
import { bytesOfDump, ROOT_INODE_B } from "../../../test/support/ext-vectors.ts";
import { VirtualClock } from "../../lib/clock.ts";
import { ExtInode } from "./inode.ts";
import { TimeStamps } from "./time-stamps.ts";

const MSEC_PER_SEC = 1000;

class Stamped {
  readonly clock = new VirtualClock();
  readonly stamps = new TimeStamps(this.clock);
  readonly inode = new ExtInode(2, bytesOfDump(ROOT_INODE_B, 256), superblockWith());

  constructor(startMs: number) {
    this.clock.spend(startMs);
  }

  /** Stamps a change, and tells with which time in milliseconds. */
  change(): number {
    const time = this.stamps.forChange(this.inode);
    this.inode.setTime("ctime", time);
    return time.sec * MSEC_PER_SEC + time.nsec / 1_000_000;
  }

  at(afterMs: number): this {
    this.clock.spend(afterMs);
    return this;
  }
}

test("changes of one tick have one time, and the next tick begins with a change", () => {
  const stamped = new Stamped(10_100);
  expect(stamped.change()).toBe(10_100);
  expect(stamped.at(1).change()).toBe(10_100);
  expect(stamped.at(2).change()).toBe(10_100);
  expect(stamped.at(1).change()).toBe(10_104);
  expect(stamped.at(3).change()).toBe(10_104);
  expect(stamped.at(900).change()).toBe(11_007);
});

test("a change after somebody looked is later than what was seen", () => {
  const stamped = new Stamped(10_100);
  stamped.change();
  expect(stamped.inode.attributes().ctime).toEqual({ sec: 10, nsec: 100_000_000 });
  expect(stamped.at(1).change()).toBe(10_101);
  expect(stamped.at(1).change()).toBe(10_101);
  stamped.inode.attributes();
  expect(stamped.at(1).change()).toBe(10_103);
});

test("a look stays known when the change after it is undone", () => {
  const stamped = new Stamped(10_100);
  stamped.change();
  const before = stamped.inode.raw.slice();
  stamped.inode.attributes();
  expect(stamped.inode.isTimeSeen).toBe(true);
  stamped.at(1).change();
  expect(stamped.inode.isTimeSeen).toBe(false);
  stamped.inode.raw.set(before);
  expect(stamped.inode.isTimeSeen).toBe(true);
});

test("nothing that comes later is stamped earlier", () => {
  const stamped = new Stamped(10_100);
  expect(stamped.change()).toBe(10_100);
  stamped.at(2);
  expect(stamped.stamps.now()).toEqual({ sec: 10, nsec: 102_000_000 });
  expect(stamped.at(1).change()).toBe(10_102);
  expect(stamped.at(2).change()).toBe(10_102);
  expect(stamped.at(1).change()).toBe(10_106);
});

test("a clock that is put back is followed", () => {
  const stamped = new Stamped(10_100);
  expect(stamped.change()).toBe(10_100);
  expect(stamped.at(-1000).change()).toBe(9100);
});

test("a stamp that an inode has already changes nothing in it", () => {
  const { inode, stamps } = new Stamped(10_100);
  const time = stamps.now();
  expect(inode.holdsTime("mtime", time)).toBe(false);
  inode.setTime("mtime", time);
  expect(inode.holdsTime("mtime", time)).toBe(true);
  expect(inode.holdsTime("mtime", { sec: time.sec, nsec: time.nsec + 1 })).toBe(false);
  expect(inode.holdsTime("mtime", { sec: time.sec + 2 ** 32, nsec: time.nsec })).toBe(false);
  expect(inode.holdsTime("ctime", time)).toBe(false);
});
