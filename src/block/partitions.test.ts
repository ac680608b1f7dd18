/**
 * Partition tables: first those that `sfdisk` and `sgdisk` write, which say themselves what is in
 * them, then damage done to them by hand, then noise.
 */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { requireTool, runTool, scratchDirectory } from "../../test/support/tools.ts";
import { le32, putLe32, putLe64 } from "../lib/bytes.ts";
import { realClock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import { Random } from "../lib/random.ts";
import { CountingStore } from "../store/counting-store.ts";
import { MemoryStore } from "../store/memory-store.ts";
import { StoreBlockDevice } from "./block-device.ts";
import { crc32 } from "./crc32.ts";
import { GPT_TYPE_NAMES, MBR_TYPE_NAMES } from "./partition-types.ts";
import { type PartitionTable, readPartitions } from "./partitions.ts";

const SECTOR = 512;
const DISK_BYTES = 8 * 1024 * 1024;
const hasSfdisk = requireTool("sfdisk");
const hasSgdisk = requireTool("sgdisk");
const scratch = scratchDirectory("partitions");
let imageCount = 0;

function imagePath(sizeBytes = DISK_BYTES): string {
  const path = join(scratch, `${imageCount++}.img`);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

/** A disk that `sfdisk` has divided as `script` says, and what it reads from it itself. */
function sfdisk(script: string): { bytes: Uint8Array; oracle: SfdiskTable } {
  const path = imagePath();
  runTool("sfdisk", ["--no-reread", path], { input: script });
  const oracle = JSON.parse(runTool("sfdisk", ["--json", path])).partitiontable as SfdiskTable;
  return { bytes: bytesOf(path), oracle };
}
/** A file's content as a plain array: the `slice` of Node's own kind makes no copy. */
function bytesOf(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}
interface SfdiskTable {
  readonly id: string;
  readonly partitions: readonly {
    readonly node: string;
    readonly start: number;
    readonly size: number;
    readonly type: string;
    readonly uuid?: string;
    readonly name?: string;
    readonly bootable?: boolean;
  }[];
}

function tableOf(bytes: Uint8Array, logicalBlockBytes = SECTOR): Promise<PartitionTable> {
  const store = new MemoryStore(bytes, { canWrite: false });
  return readPartitions(new StoreBlockDevice(store, { clock: realClock, logicalBlockBytes }));
}

/** What `sfdisk` and we both know, in one form. */
function rowsOf(table: PartitionTable): unknown[] {
  return table.partitions.map((p) => ({
    number: p.number,
    start: p.offsetBytes / SECTOR,
    size: p.lengthBytes / SECTOR,
    type: table.scheme === "mbr" ? Number(p.typeId) : p.typeId,
    uuid: p.uuid,
    name: p.label,
  }));
}

function oracleRows(table: SfdiskTable, scheme: string): unknown[] {
  return table.partitions.map((p) => ({
    number: Number(/(\d+)$/.exec(p.node)?.[1]),
    start: p.start,
    size: p.size,
    type: scheme === "mbr" ? Number.parseInt(p.type, 16) : p.type,
    uuid: p.uuid,
    name: p.name,
  }));
}

const MBR_SCRIPT = `label: dos
label-id: 0x1234abcd
start=2048, size=2048, type=83, bootable
start=4096, size=1024, type=82
start=6144, size=8192, type=f
start=15000, size=300, type=7
size=1024, type=83
size=512, type=b
size=256, type=fd
`;
const GPT_SCRIPT = `label: gpt
label-id: 8104FAA4-2FFC-3241-8D36-F44E01AC3922
size=1MiB, type=U, name="boot"
size=2MiB, type=L, name="Wurzel ä☃", attrs="LegacyBIOSBootable"
size=1MiB, type=S
`;

describe("MBR", () => {
  test.skipIf(!hasSfdisk)("primary and logical partitions are as sfdisk lists them", async () => {
    const { bytes, oracle } = sfdisk(MBR_SCRIPT);
    const table = await tableOf(bytes);
    expect(table).toMatchObject({ scheme: "mbr", diskId: "0x1234abcd", warnings: [] });
    expect(rowsOf(table)).toEqual(oracleRows(oracle, "mbr"));
    expect(table.partitions.map((p) => p.number)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(table.partitions[0]).toMatchObject({ typeName: "Linux", typeId: "0x83" });
    expect(table.partitions.filter((p) => p.isBootable).map((p) => p.number)).toEqual([1]);
    expect(table.partitions.filter((p) => p.isContainer).map((p) => p.number)).toEqual([3]);
  });

  test.skipIf(!hasSfdisk)("on a disk of 4096-byte sectors the numbers count those", async () => {
    const { bytes } = sfdisk("label: dos\nstart=100, size=200, type=83\n");
    const table = await tableOf(bytes, 4096);
    expect(table.partitions[0]).toMatchObject({ offsetBytes: 409_600, lengthBytes: 819_200 });
  });

  test("a device without a table has none: empty, tiny, zero, or with a boot loader", async () => {
    for (const size of [0, 1, 511, 512, 4096]) {
      expect((await tableOf(new Uint8Array(size))).scheme).toBe("none");
    }
    const loader = new Uint8Array(4096).fill(0xeb, 0, 510);
    loader.set([0x55, 0xaa], 510);
    expect(await tableOf(loader)).toMatchObject({ scheme: "none", partitions: [], warnings: [] });
  });

  test.skipIf(!hasSfdisk)("an empty table is a table", async () => {
    const { bytes } = sfdisk("label: dos\n");
    expect(await tableOf(bytes)).toMatchObject({ scheme: "mbr", partitions: [], warnings: [] });
  });

  test("entries outside of the device are cut or left out, with warnings", async () => {
    const disk = diskOf(1000, [
      [0x83, 10, 2000],
      [0x83, 1000, 10],
      [0x83, 0xffff_ffff, 0xffff_ffff],
    ]);
    const table = await tableOf(disk);
    expect(rowsOf(table)).toMatchObject([{ number: 1, start: 10, size: 990 }]);
    expect(table.warnings).toEqual([
      "partition 1 reaches past the end of the device and is cut",
      "partition 2 begins behind the end of the device and is left out",
      "partition 3 begins behind the end of the device and is left out",
    ]);
  });

  test("entries that overlap are kept, with a warning for each", async () => {
    const disk = diskOf(1000, [
      [0x83, 100, 800],
      [0x83, 200, 10],
      [0x83, 300, 10],
      [0x83, 900, 10],
    ]);
    const table = await tableOf(disk);
    expect(table.partitions.length).toBe(4);
    expect(table.warnings).toEqual(["partitions 1 and 2 overlap", "partitions 1 and 3 overlap"]);
  });

  test("a chain of EBRs that leads back ends there", async () => {
    const disk = diskOf(1000, [[0x05, 100, 800]]);
    putTable(disk, 100, [
      [0x83, 10, 20],
      [0x05, 200, 50],
    ]);
    putTable(disk, 300, [
      [0x83, 10, 20],
      [0x05, 0, 50],
    ]);
    const table = await tableOf(disk);
    expect(rowsOf(table)).toMatchObject([
      { number: 1, start: 100 },
      { number: 5, start: 110 },
      { number: 6, start: 310 },
    ]);
    expect(table.warnings).toEqual([
      "the chain of logical partitions at sector 100 leads back to itself",
    ]);
  });

  test("a chain that leaves the device or has no end is cut off", async () => {
    const leaving = diskOf(1000, [[0x05, 100, 800]]);
    putTable(leaving, 100, [
      [0x83, 10, 20],
      [0x05, 5000, 50],
    ]);
    expect((await tableOf(leaving)).warnings).toEqual([
      "the chain of logical partitions at sector 5100 leaves the device",
    ]);

    const endless = diskOf(4000, [[0x0f, 1000, 3000]]);
    for (let sector = 1000; sector < 3999; sector++) {
      putTable(endless, sector, [[0x05, sector + 1 - 1000, 1]]);
    }
    expect((await tableOf(endless)).warnings[0]).toContain("more than 256 links");
  });

  test("a container with nothing in it is no damage, a broken link is", async () => {
    const disk = diskOf(1000, [[0x05, 100, 800]]);
    expect((await tableOf(disk)).warnings).toEqual([]);
    putTable(disk, 100, [
      [0x83, 10, 20],
      [0x05, 200, 50],
    ]);
    expect((await tableOf(disk)).warnings).toEqual([
      "the chain of logical partitions at sector 300 has no valid sector there",
    ]);
  });

  test("a chain may use the last sector of the device", async () => {
    const disk = diskOf(1000, [[0x05, 100, 900]]);
    putTable(disk, 100, [
      [0x83, 10, 20],
      [0x05, 899, 1],
    ]);
    putTable(disk, 999, [[0x83, 0, 1]]);
    const table = await tableOf(disk);
    expect(rowsOf(table)).toMatchObject([{ number: 1 }, { number: 5 }, { number: 6, start: 999 }]);
    expect(table.warnings).toEqual([]);
  });

  test("the last two entries of an EBR count only inside of the container", async () => {
    const disk = diskOf(1000, [[0x05, 100, 100]]);
    putTable(disk, 100, [
      [0x83, 10, 20],
      [0, 0, 0],
      [0x83, 40, 60],
      [0x83, 50, 51],
    ]);
    const table = await tableOf(disk);
    expect(rowsOf(table)).toMatchObject([{ number: 1 }, { number: 5 }, { number: 6, start: 140 }]);
    expect(table.warnings).toEqual([]);
  });

  test("a logical partition that leaves its container is kept, with a warning", async () => {
    const disk = diskOf(1000, [[0x05, 100, 100]]);
    putTable(disk, 100, [[0x83, 10, 200]]);
    const table = await tableOf(disk);
    expect(rowsOf(table)).toMatchObject([{ number: 1 }, { number: 5, start: 110, size: 200 }]);
    expect(table.warnings).toEqual(["partition 5 reaches past the partition that holds it"]);
  });
});

describe("GPT", () => {
  test.skipIf(!hasSfdisk)("partitions are as sfdisk lists them, with names and GUIDs", async () => {
    const { bytes, oracle } = sfdisk(GPT_SCRIPT);
    const table = await tableOf(bytes);
    expect(table).toMatchObject({ scheme: "gpt", warnings: [], logicalBlockBytes: 512 });
    expect(table.diskId).toBe(oracle.id);
    expect(rowsOf(table)).toEqual(oracleRows(oracle, "gpt"));
    expect(table.partitions.map((p) => p.typeName)).toEqual([
      "EFI System",
      "Linux filesystem",
      "Linux swap",
    ]);
    expect(table.partitions.map((p) => p.isBootable)).toEqual([false, true, false]);
    expect(table.partitions[1]!.label).toBe("Wurzel ä☃");
  });

  test.skipIf(!hasSgdisk)("sgdisk's tables read likewise, numbers with gaps included", async () => {
    const path = imagePath();
    runTool("sgdisk", ["-n", "3:2048:4095", "-c", "3:data ü", "-n", "128:8192:+1M", path]);
    const table = await tableOf(bytesOf(path));
    expect(rowsOf(table)).toMatchObject([
      { number: 3, start: 2048, size: 2048, name: "data ü" },
      { number: 128, start: 8192, size: 2048 },
    ]);
    expect(table.warnings).toEqual([]);
  });

  test.skipIf(!hasSfdisk)("costs three reads: MBR, header, entries", async () => {
    const { bytes } = sfdisk(GPT_SCRIPT);
    const store = new CountingStore(new MemoryStore(bytes));
    await readPartitions(new StoreBlockDevice(store, { clock: realClock }));
    expect(store.reads).toBe(3);
  });

  test.skipIf(!hasSfdisk)(
    "a damaged first header: the copy at the end is used, and told",
    async () => {
      const { bytes, oracle } = sfdisk(GPT_SCRIPT);
      for (const damage of [
        { at: SECTOR, what: "no signature" },
        { at: SECTOR + 16, what: "wrong checksum of the header" },
        { at: SECTOR + 56, what: "wrong checksum of the header" },
        { at: 2 * SECTOR + 130, what: "wrong checksum of the entries" },
      ]) {
        const broken = bytes.slice();
        broken[damage.at]! ^= 1;
        const table = await tableOf(broken);
        expect(rowsOf(table)).toEqual(oracleRows(oracle, "gpt"));
        const last = DISK_BYTES / SECTOR - 1;
        expect(table.warnings).toEqual([
          `the first GPT is damaged (${damage.what}); its copy at block ${last} is used`,
        ]);
      }
    },
  );

  test.skipIf(!hasSfdisk)("a grown image: the copy is found where the header says", async () => {
    const { bytes, oracle } = sfdisk(GPT_SCRIPT);
    const grown = new Uint8Array(DISK_BYTES + 65_536);
    grown.set(bytes);
    grown[2 * SECTOR]! ^= 1;
    expect(rowsOf(await tableOf(grown))).toEqual(oracleRows(oracle, "gpt"));
  });

  test.skipIf(!hasSfdisk)("both copies damaged: no partitions, and a warning", async () => {
    const { bytes } = sfdisk(GPT_SCRIPT);
    bytes[SECTOR + 20]! ^= 1;
    bytes[DISK_BYTES - SECTOR + 20]! ^= 1;
    const table = await tableOf(bytes);
    expect(table).toMatchObject({ scheme: "gpt", partitions: [] });
    expect(table.warnings).toEqual([
      "the MBR announces a GPT, but neither it (wrong checksum of the header) nor its copy can be used",
    ]);
  });

  test.skipIf(!hasSfdisk)("an image cut short keeps what is left of its partitions", async () => {
    const { bytes, oracle } = sfdisk(GPT_SCRIPT);
    const cut = bytes.subarray(0, (oracle.partitions[1]!.start + 100) * SECTOR);
    const table = await tableOf(cut);
    expect(rowsOf(table)).toMatchObject([{ number: 1 }, { number: 2, size: 100 }]);
    expect(table.warnings).toEqual([
      "the device is smaller than its GPT says",
      "partition 2 reaches past the end of the device and is cut",
      "partition 3 begins behind the end of the device and is left out",
    ]);
  });

  test.each([512, 4096])(
    "sectors of %i bytes are found, whatever the device says",
    async (unit) => {
      const disk = gptOf(unit, [{ first: 40, last: 49 }]);
      for (const told of [512, 4096]) {
        const table = await tableOf(disk, told);
        expect(table).toMatchObject({ logicalBlockBytes: unit, warnings: [] });
        expect(table.partitions).toMatchObject([
          { offsetBytes: 40 * unit, lengthBytes: 10 * unit },
        ]);
        const copy = disk.slice();
        copy[unit]! ^= 1;
        expect((await tableOf(copy, told)).partitions.length).toBe(1);
      }
    },
  );

  test("a name may hold what UTF-16 can, and a lone surrogate is replaced", async () => {
    const disk = gptOf(SECTOR, [
      { first: 100, last: 109 },
      { first: 120, last: 129 },
    ]);
    const names = ["a\u{1f4da}".padEnd(36, "z"), "\ud800b"];
    for (const copy of [2, 980]) {
      for (const [index, name] of names.entries()) {
        const from = copy * SECTOR + index * 128 + 56;
        disk.set(Buffer.from(name, "utf16le").subarray(0, 72), from);
      }
      const header = copy === 2 ? SECTOR : 999 * SECTOR;
      putLe32(disk, header + 88, crc32(disk.subarray(copy * SECTOR, copy * SECTOR + 16 * 128)));
      sealHeader(disk, header);
    }
    const table = await tableOf(disk);
    expect(table.partitions.map((p) => p.label)).toEqual([
      `a\u{1f4da}${"z".repeat(33)}`,
      "\ufffdb",
    ]);
  });

  test("entries of other sizes than 128 bytes are read by their size", async () => {
    const disk = gptOf(
      SECTOR,
      [
        { first: 100, last: 109 },
        { first: 120, last: 129 },
      ],
      256,
    );
    expect(rowsOf(await tableOf(disk))).toMatchObject([{ start: 100 }, { start: 120 }]);
  });

  test.each([
    ["of 0 bytes", 0, 128, "entries of 0 bytes"],
    ["of 64 bytes", 64, 128, "entries of 64 bytes"],
    ["of 132 bytes", 132, 4, "entries of 132 bytes"],
    ["more than a table may have", 128, 0xffff_ffff, "4294967295 entries"],
    ["reaching past the device's end", 128, 30_000, "entries behind the device's end"],
  ])(
    "a header with entries %s is damage, whatever its checksum",
    async (_, entryBytes, count, why) => {
      const disk = gptOf(SECTOR, [{ first: 100, last: 109 }]);
      putLe32(disk, SECTOR + 80, count);
      putLe32(disk, SECTOR + 84, entryBytes);
      sealHeader(disk, SECTOR);
      const table = await tableOf(disk);
      expect(rowsOf(table)).toMatchObject([{ start: 100 }]);
      expect(table.warnings).toEqual([
        `the first GPT is damaged (${why}); its copy at block 999 is used`,
      ]);
    },
  );

  test("a header that is not for its block, or of no possible size, is damage", async () => {
    for (const [at, value, why] of [
      [24, 2, "a header for block 2"],
      [12, 91, "a header of 91 bytes"],
      [12, 513, "a header of 513 bytes"],
      [12, 0xffff_ffff, "a header of 4294967295 bytes"],
    ] as const) {
      const disk = gptOf(SECTOR, [{ first: 100, last: 109 }]);
      putLe32(disk, SECTOR + at, value);
      sealHeader(disk, SECTOR);
      expect((await tableOf(disk)).warnings[0]).toContain(`the first GPT is damaged (${why})`);
    }
  });

  test("entries that end before they begin, or lie outside of the usable part, are told", async () => {
    const disk = gptOf(SECTOR, [
      { first: 200, last: 199 },
      { first: 10, last: 20 },
      { first: 2 ** 52, last: 2 ** 52 + 5 },
      { first: 300, last: 310 },
      { first: 310, last: 320 },
    ]);
    const table = await tableOf(disk);
    expect(table.partitions.map((p) => p.number)).toEqual([2, 4, 5]);
    expect(table.warnings).toEqual([
      "partition 1 ends before it begins and is left out",
      "partition 2 lies outside of what the GPT gives to partitions",
      "partition 3 lies outside of what the GPT gives to partitions",
      "partition 3 begins behind the end of the device and is left out",
      "partitions 4 and 5 overlap",
    ]);
  });

  test("an MBR with partitions of its own beside the GPT is told", async () => {
    const disk = gptOf(SECTOR, [{ first: 100, last: 109 }]);
    putTable(disk, 0, [
      [0xee, 1, 50],
      [0x83, 100, 10],
    ]);
    const table = await tableOf(disk);
    expect([table.scheme, table.partitions.length, table.warnings.length]).toEqual(["gpt", 1, 1]);
    expect(table.warnings[0]).toContain("beside the GPT");
  });
});

describe("names of types", () => {
  test.skipIf(!hasSfdisk)("are those of sfdisk", () => {
    const dos = runTool("sfdisk", ["--label", "dos", "--list-types"]);
    for (const [type, name] of MBR_TYPE_NAMES) {
      expect(dos).toMatch(new RegExp(`^ *${type.toString(16)} +${escaped(name)}$`, "m"));
    }
    const gpt = runTool("sfdisk", ["--label", "gpt", "--list-types"]);
    for (const [guid, name] of GPT_TYPE_NAMES) {
      expect(gpt).toMatch(new RegExp(`^${guid} +${escaped(name)}$`, "im"));
    }
  });
});

describe("hostile tables", () => {
  test("noise gives partitions inside the device, or none, and never throws", async () => {
    const random = new Random(20);
    for (let round = 0; round < 300; round++) {
      const disk = random.bytes(SECTOR * (1 + random.below(64)));
      disk.set([0x55, 0xaa], 510);
      for (const at of [446, 462, 478, 494]) {
        disk[at] = random.pick([0, 0x80]);
        disk[at + 4] = random.pick([0, 0x05, 0x0f, 0x83, 0x83, 0xee]);
        putLe32(disk, at + 8, random.below(80));
        putLe32(disk, at + 12, random.below(80));
      }
      const table = await tableOf(disk);
      for (const { offsetBytes, lengthBytes } of table.partitions) {
        expect(offsetBytes + lengthBytes).toBeLessThanOrEqual(disk.length);
        expect(lengthBytes).toBeGreaterThan(0);
      }
    }
  });

  test("every flipped bit of a GPT is damage that is told, or changes nothing", async () => {
    const disk = gptOf(SECTOR, [{ first: 100, last: 109 }]);
    const whole = rowsOf(await tableOf(disk));
    for (let at = SECTOR; at < SECTOR + 92; at++) {
      for (let bit = 0; bit < 8; bit++) {
        disk[at]! ^= 1 << bit;
        const table = await tableOf(disk);
        expect(rowsOf(table)).toEqual(whole);
        expect(table.warnings.length).toBe(1);
        disk[at]! ^= 1 << bit;
      }
    }
  });

  test("a sector that cannot be read is an error, not a missing table", async () => {
    const store = new MemoryStore(4096);
    store.read = () => Promise.reject(new FsError("EIO"));
    const device = new StoreBlockDevice(store, { clock: realClock });
    await expect(readPartitions(device)).rejects.toMatchObject({ code: "EIO" });
  });

  test("an aborted signal ends it with its reason", async () => {
    const device = new StoreBlockDevice(new MemoryStore(4096), { clock: realClock });
    const signal = AbortSignal.abort("enough");
    await expect(readPartitions(device, signal)).rejects.toBe("enough");
  });
});

type Entry = readonly [type: number, firstSector: number, sectorCount: number];

/** Writes an MBR or EBR with `entries` into `sector` of `disk`. */
function putTable(disk: Uint8Array, sector: number, entries: readonly Entry[]): void {
  const from = sector * SECTOR;
  for (const [index, [type, firstSector, sectorCount]] of entries.entries()) {
    const at = from + 446 + 16 * index;
    disk[at + 4] = type;
    putLe32(disk, at + 8, firstSector);
    putLe32(disk, at + 12, sectorCount);
  }
  disk.set([0x55, 0xaa], from + 510);
}

function diskOf(sectorCount: number, entries: readonly Entry[]): Uint8Array {
  const disk = new Uint8Array(sectorCount * SECTOR);
  putTable(disk, 0, entries);
  return disk;
}

/** A GPT disk of 1000 blocks of `unit` bytes, with both copies of the table. */
function gptOf(
  unit: number,
  parts: readonly { first: number; last: number }[],
  entryBytes = 128,
): Uint8Array {
  const blocks = 1000;
  const disk = new Uint8Array(blocks * unit);
  putTable(disk, 0, [[0xee, 1, 0xffff_ffff]]);
  const entryCount = 16;
  const entries = new Uint8Array(entryCount * entryBytes);
  for (const [index, { first, last }] of parts.entries()) {
    const at = index * entryBytes;
    entries.fill(0xa0 + index, at, at + 32);
    putLe64(entries, at + 32, first);
    putLe64(entries, at + 40, last);
  }
  const copies = [
    { own: 1, other: blocks - 1, table: 2 },
    { own: blocks - 1, other: 1, table: blocks - 20 },
  ];
  for (const { own, other, table } of copies) {
    const at = own * unit;
    disk.set(new TextEncoder().encode("EFI PART"), at);
    putLe32(disk, at + 8, 0x10000);
    putLe32(disk, at + 12, 92);
    putLe64(disk, at + 24, own);
    putLe64(disk, at + 32, other);
    putLe64(disk, at + 40, 34);
    putLe64(disk, at + 48, blocks - 34);
    putLe64(disk, at + 72, table);
    putLe32(disk, at + 80, entryCount);
    putLe32(disk, at + 84, entryBytes);
    putLe32(disk, at + 88, crc32(entries));
    disk.set(entries, table * unit);
    sealHeader(disk, at);
  }
  return disk;
}

/** Puts the right checksum into the header at `at`, as far as its size allows. */
function sealHeader(disk: Uint8Array, at: number): void {
  const length = Math.min(le32(disk, at + 12), disk.length - at);
  putLe32(disk, at + 16, 0);
  putLe32(disk, at + 16, crc32(disk.subarray(at, at + length)));
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
