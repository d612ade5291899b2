"""How small models learn from the large one: 2-stage distillation, the Distiller, acquisition, the gate."""
