/**
 * Defects on purpose, by which the tests are tested: a harness that looks for lost data must find
 * each of these, and would else find nothing at all.
 *
 * All are off, and there is no option, variable of the environment or call of the public face that
 * turns one on: a test does, by this module. Off, one costs a load and a branch at the one place
 * that asks for it, none of which is on the way of a byte or a name that is cached.
 */

/** The defects, by what is wrong. True: it is there. */
export interface Mutants {
  /** The commit block is written without a flush of what it stands for. */
  commitWithoutFlush: boolean;
  /** The commit block has no checksum. */
  commitWithoutChecksum: boolean;
  /** A write with FUA is told to be done when it is submitted. */
  fuaAtSubmission: boolean;
  /** A folio leaves writeback when it is submitted. */
  cleanAtSubmission: boolean;
  /** A folio that could not be written is clean, though what was written is to be kept. */
  cleanAfterError: boolean;
  /** A folio that was changed while it is written is none of a sync's that begins then. */
  inFlightNotTagged: boolean;
  /** Freed blocks are not revoked. */
  withoutRevokes: boolean;
  /** The log is given free before what it holds is durable at home. */
  tailWithoutFlush: boolean;
  /** The size on disk covers data that has only got its place. */
  sizeBeforeData: boolean;
  /** Inodes without a name are not noted. */
  withoutOrphans: boolean;
  /** Blocks count as written before they are. */
  convertBeforeData: boolean;
  /** Without a journal what leads to data is written before that is durable. */
  dataWithoutFlush: boolean;
}

/** The switches. */
export const mutants: Mutants = {
  commitWithoutFlush: false,
  commitWithoutChecksum: false,
  fuaAtSubmission: false,
  cleanAtSubmission: false,
  cleanAfterError: false,
  inFlightNotTagged: false,
  withoutRevokes: false,
  tailWithoutFlush: false,
  sizeBeforeData: false,
  withoutOrphans: false,
  convertBeforeData: false,
  dataWithoutFlush: false,
};
