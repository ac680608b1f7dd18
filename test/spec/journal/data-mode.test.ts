/** How data and the journal go together, as asked for and as the superblock says: case J89. */
import { describe, expect, test } from "vitest";
import { openImage } from "../../../src/front/open-image.ts";
import { superblockChecksum } from "../../../src/fs/ext/checksum.ts";
import { type DataMode, dataModeOf } from "../../../src/fs/ext/data-mode.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { Superblock } from "../../../src/fs/ext/superblock.ts";
import { le32, putLe32 } from "../../../src/lib/bytes.ts";
import { realClock } from "../../../src/lib/clock.ts";
import { Random } from "../../../src/lib/random.ts";
import { SimDisk } from "../../../src/store/sim-disk.ts";
import { expectClean, makeBytes } from "../../support/fast-image.ts";

const DATA = 0x20;
const ORDERED = 0x40;
const WRITEBACK = 0x60;

async function bytesWith(mode: number): Promise<Uint8Array> {
  const bytes = await makeBytes([], { type: "ext3" });
  const raw = bytes.subarray(1024, 2048);
  putLe32(raw, SB.s_default_mount_opts, (le32(raw, SB.s_default_mount_opts) & ~0x60) | mode);
  if (new Superblock(raw.slice()).hasMetadataCsum) {
    putLe32(raw, SB.s_checksum, superblockChecksum(raw));
  }
  return bytes;
}

describe("data and the journal", () => {
  test.each([
    [0, undefined, "ordered"],
    [ORDERED, undefined, "ordered"],
    [WRITEBACK, undefined, "writeback"],
    [WRITEBACK, "ordered", "ordered"],
    [0, "writeback", "writeback"],
    [DATA, undefined, "journal"],
    [DATA, "writeback", "writeback"],
    [DATA, "ordered", "ordered"],
    [0, "journal", "journal"],
  ] as readonly (readonly [number, DataMode | undefined, DataMode])[])(
    "defaults %s of the image and %s asked for: it is %s",
    async (mode, wanted, is) => {
      const sb = new Superblock((await bytesWith(mode)).slice(1024, 2048));
      expect(dataModeOf(sb, wanted, true)).toBe(is);
      if (wanted !== "journal") expect(dataModeOf(sb, wanted, false)).toBeUndefined();
    },
  );

  test.each([
    ["there is no journal", "ext2", {}],
    ["it is written past", "ext3", { unlogged: true }],
  ] as const)(
    "data=journal is refused where %s, and the image stays as it is",
    async (_why, type, options) => {
      const bytes = await makeBytes([], { type });
      const before = bytes.slice();
      const opening = openImage(bytes, { writable: true, data: "journal", ...options });
      await expect(opening).rejects.toMatchObject({ code: "EINVAL" });
      await expect(opening).rejects.toThrow(/data=journal needs a journal/);
      expect(Buffer.compare(bytes, before)).toBe(0);
    },
  );

  test("what the superblock asks for is had, without a word", async () => {
    const volume = await openImage(await bytesWith(DATA), { writable: true });
    expect(volume.fileSystem.warnings).toEqual([]);
    await volume.close();
  });

  test.each(["ordered", "writeback", "journal"] as const)(
    "J89 data=%s: files that were synced are whole after any cut, and the image is clean",
    async (data) => {
      const random = new Random(4);
      const options = { clock: realClock, random, latencyMs: () => 0 };
      const disk = new SimDisk(await bytesWith(0), options);
      const images: Uint8Array[] = [];
      const volume = await openImage(disk, { writable: true, data, random: new Random(1) });
      const { write } = disk;
      disk.write = (...args) => {
        const writing = write.apply(disk, args);
        if (random.chance(0.3)) images.push(disk.crash().durableImage());
        return writing;
      };
      const synced: string[] = [];
      const counts: number[] = [];
      for (let at = 0; at < 12; at++) {
        await volume.fs.writeFile(`/f${at}`, String.fromCharCode(65 + at).repeat(3000));
        if (at % 3 === 2) await volume.sync();
        if (at % 3 === 2) synced.push(`/f${at - 2}`, `/f${at - 1}`, `/f${at}`);
        while (counts.length < images.length) counts.push(at - (at % 3));
      }
      disk.write = write;
      await volume.close();
      expect(images.length).toBeGreaterThan(2);
      for (const [index, bytes] of images.entries()) {
        const cut = await openImage(bytes, { writable: true });
        for (const path of synced.slice(0, counts[index])) {
          const letter = String.fromCharCode(65 + Number(path.slice(2)));
          expect(await cut.fs.readFile(path, "latin1"), path).toBe(letter.repeat(3000));
        }
        await cut.close();
        await expectClean(bytes);
      }
    },
  );
});
