import { describe, expect, test } from "vitest";
import type { InodeAttributes, Timespec } from "../fs/vfs.ts";
import { BigIntStats, makeDevice, Stats } from "./stats.ts";

function attributesWith(time: Timespec): InodeAttributes {
  return {
    ino: 12,
    generation: 1,
    mode: 0o100644,
    nlink: 1,
    uid: 2,
    gid: 3,
    rdevMajor: 0,
    rdevMinor: 0,
    sizeBytes: 3 * 2 ** 40,
    sectorCount: 8,
    blockBytes: 1024,
    atime: time,
    mtime: time,
    ctime: time,
    birthtime: undefined,
    flags: 0,
    projectId: 0,
  };
}

describe("times", () => {
  test.each<[title: string, time: Timespec, ns: bigint, iso: string]>([
    ["1901", { sec: -(2 ** 31), nsec: 0 }, -2147483648000000000n, "1901-12-13T20:45:52.000Z"],
    ["before 1970", { sec: -2, nsec: 500_000_000 }, -1500000000n, "1969-12-31T23:59:58.500Z"],
    ["1970", { sec: 0, nsec: 1 }, 1n, "1970-01-01T00:00:00.000Z"],
    ["2038", { sec: 2 ** 31, nsec: 999_999_999 }, 2147483648999999999n, "2038-01-19T03:14:09.000Z"],
    ["2446", { sec: 15_032_385_535, nsec: 0 }, 15032385535000000000n, "2446-05-10T22:38:55.000Z"],
  ])("of %s", (_title, time, ns, iso) => {
    const big = new BigIntStats(attributesWith(time));
    expect([big.mtimeNs, big.birthtimeNs]).toEqual([ns, ns]);
    expect(big.mtimeMs).toBe(ns / 1_000_000n);
    const stats = new Stats(attributesWith(time));
    expect(stats.atimeMs).toBeCloseTo(Number(ns) / 1e6, 3);
    expect(stats.mtime.toISOString()).toBe(iso);
  });
});

describe("fields", () => {
  test("are numbers, or all bigints", () => {
    const from = attributesWith({ sec: 5, nsec: 0 });
    expect(new Stats(from)).toMatchObject({ ino: 12, size: 3 * 2 ** 40, blocks: 8, blksize: 1024 });
    for (const value of Object.values(new BigIntStats(from))) expect(typeof value).toBe("bigint");
  });

  test("device numbers are put together as the C library does", () => {
    expect(makeDevice(1, 3)).toBe(0x103);
    expect(makeDevice(259, 300)).toBe(0x11_032c);
    expect(makeDevice(0xfff, 0xf_ffff)).toBe(0xffff_ffff);
    expect(makeDevice(0x1000, 0)).toBe(2 ** 44);
  });
});
