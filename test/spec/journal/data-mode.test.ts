/** How data and the journal go together, as asked for and as the superblock says: case J89. */
import { describe, expect, test } from "vitest";
import { openImage } from "../../../src/front/open-image.ts";
import { superblockChecksum } from "../../../src/fs/ext/checksum.ts";
import { type DataMode, isDataOrdered } from "../../../src/fs/ext/data-mode.ts";
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
    [0, undefined, true],
    [ORDERED, undefined, true],
    [WRITEBACK, undefined, false],
    [WRITEBACK, "ordered", true],
    [0, "writeback", false],
    [DATA, undefined, true],
    [DATA, "writeback", false],
  ] as readonly (readonly [number, DataMode | undefined, boolean])[])(
    "defaults %s of the image and %s asked for: ordered is %s",
    async (mode, wanted, isOrdered) => {
      const sb = new Superblock((await bytesWith(mode)).slice(1024, 2048));
      const warnings: string[] = [];
      expect(isDataOrdered(sb, wanted, (text) => warnings.push(text))).toBe(isOrdered);
      expect(warnings).toHaveLength(mode === DATA && wanted === undefined ? 1 : 0);
    },
  );

  test("data=journal is refused for writing with a sentence, and the image stays as it is", async () => {
    const bytes = await bytesWith(0);
    const before = bytes.slice();
    const opening = openImage(bytes, { writable: true, data: "journal" });
    await expect(opening).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    await expect(opening).rejects.toThrow(/data=journal is not offered/);
    expect(Buffer.compare(bytes, before)).toBe(0);
  });

  test.each(["ordered", "writeback"] as const)(
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
      expect(images.length).toBeGreaterThan(3);
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
