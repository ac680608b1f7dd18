/**
 * What a check has found: findings for machines and people, and how many there are beyond those
 * that are kept.
 */
import type { FsError } from "../../../lib/errno.ts";

/**
 * "damage": e2fsck would repair it. "note": worth knowing, as an old copy of the superblock; does
 * not make an image unclean.
 */
export type Severity = "damage" | "note";

/** Where something was found; what does not apply is left out. */
export interface Where {
  readonly group?: number | undefined;
  readonly ino?: number | undefined;
  readonly blocknr?: number | undefined;
  readonly fileBlock?: number | undefined;
  /** Offset in the block. */
  readonly at?: number | undefined;
}

/** One thing that is wrong. `code` is stable, as "inode.links" or "bitmap.block". */
export interface Finding {
  readonly code: string;
  readonly severity: Severity;
  readonly where: Where;
  readonly text: string;
}

/** The result of a check. */
export interface CheckReport {
  /** There is no damage. */
  readonly isClean: boolean;
  /** In the order in which they were found, at most `findingsMax`. */
  readonly findings: readonly Finding[];
  readonly damageCount: number;
  readonly noteCount: number;
  /** False if the check could not go on to its end. */
  readonly isComplete: boolean;
  readonly usedInodes: number;
  readonly directories: number;
  readonly usedClusters: number;
}

const FINDINGS_MAX = 1000;

/** Collects findings. */
export class Findings {
  readonly list: Finding[] = [];
  readonly #max: number;
  damageCount = 0;
  noteCount = 0;

  constructor(max: number = FINDINGS_MAX) {
    this.#max = max;
  }

  damage(code: string, where: Where, text: string): void {
    this.damageCount++;
    this.#add({ code, severity: "damage", where, text });
  }

  note(code: string, where: Where, text: string): void {
    this.noteCount++;
    this.#add({ code, severity: "note", where, text });
  }

  /** What a decoder has thrown. */
  thrown(code: string, where: Where, error: FsError): void {
    this.damage(code, where, error.message);
  }

  #add(finding: Finding): void {
    if (this.list.length < this.#max) this.list.push(finding);
  }
}
