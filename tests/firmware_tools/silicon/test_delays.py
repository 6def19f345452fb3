from firmware_tools.silicon.delays import Arc, read_sdf

SDF = r"""
(DELAYFILE
 (CELL
  (CELLTYPE "kenyon")
  (INSTANCE)
  (DELAY (ABSOLUTE
    (INTERCONNECT a npu\.u1_/A (0.0000::0.0000))
  ))
 )
 (CELL
  (CELLTYPE "NOR2X1")
  (INSTANCE npu\.u1_)
  (DELAY
   (ABSOLUTE
    (IOPATH A Y (0.1079::0.1080) (0.1390::0.1391))
    (IOPATH B Y (0.0963::0.0968) (0.0982::0.0985))
   )
  )
 )
 (CELL
  (CELLTYPE "memory")
  (INSTANCE npu\.memory)
  (DELAY
   (ABSOLUTE
    (IOPATH clk data[0] )
   )
  )
 )
)
"""


def test_sdf_by_hand() -> None:
    assert read_sdf(SDF.splitlines()) == {
        "npu.u1_": [Arc("A", "Y", 0.108, 0.1391), Arc("B", "Y", 0.0968, 0.0985)],
        "npu.memory": [],
    }
