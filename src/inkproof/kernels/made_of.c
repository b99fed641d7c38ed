/* A library of other sources is not loaded: hatch_build.py gives the digest of these. */

const char *const made_of = MADE_OF;
