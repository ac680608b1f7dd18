import { describe, expect, test } from "vitest";
import { SECTOR_BYTES } from "../lib/units.ts";
import { deviceSizeBytes, searchEndBytes, splitRdev } from "./device-size.ts";

describe("the size of a block device", () => {
  test.each([0, 1, 2, 3, 4, 5, 1000, 2 ** 20, 2 ** 31 + 7])(
    "is found by reading, with %i sectors",
    async (sectorCount) => {
      let reads = 0;
      const end = await searchEndBytes(async (offsetBytes) => {
        reads++;
        return offsetBytes < sectorCount * SECTOR_BYTES;
      });
      expect(end).toBe(sectorCount * SECTOR_BYTES);
      expect(reads).toBeLessThan(90);
    },
  );

  test("is searched where the system does not tell it", async () => {
    const noDevice = 0xfff_fff0_0000n;
    expect(await deviceSizeBytes(noDevice, async (at) => at < 5000)).toBe(10 * SECTOR_BYTES);
  });

  test("a failing read while it is searched is no end", async () => {
    await expect(searchEndBytes(() => Promise.reject(new Error("EIO")))).rejects.toThrow("EIO");
  });

  test.each([
    [0x0800n, 8n, 0n],
    [0x0811n, 8n, 17n],
    [0x1_0301n, 259n, 1n],
    [0x10_0300n, 3n, 256n],
    [0xffff_f000_000f_ff00n, 0xffff_ffffn, 0n],
  ])("device number %s is major %s, minor %s", (rdev, major, minor) => {
    expect(splitRdev(rdev)).toEqual({ major, minor });
  });
});
